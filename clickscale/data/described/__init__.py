"""A log of one's own: the TOML file that describes it, a draft of that file, and its reader."""
