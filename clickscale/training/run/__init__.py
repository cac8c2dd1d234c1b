"""The folder of a run: options, environment, checkpoints, logs, interruption."""
