"""The online feature store: profiles, timelines, item attributes and counters of statistics."""
