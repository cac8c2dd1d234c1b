"""From a raw log to a prepared data set."""
