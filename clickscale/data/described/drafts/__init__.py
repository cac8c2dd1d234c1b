"""Drafts of the TOML file that describes a log: from its tables, or from the configuration of a library."""
