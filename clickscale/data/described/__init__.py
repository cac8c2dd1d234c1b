"""Your own log: the TOML file that describes it, its reader, and drafts of that file."""
