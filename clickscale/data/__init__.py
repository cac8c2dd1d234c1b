"""Raw logs, prepared data sets and batches."""
