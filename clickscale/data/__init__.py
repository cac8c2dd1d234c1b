"""From a raw log to batches."""
