"""Prepared logs of other libraries: their configurations, from which a schema.toml is drafted."""
