"""Many models under one budget: options, cells, speeds, forecast, processes, tables."""
