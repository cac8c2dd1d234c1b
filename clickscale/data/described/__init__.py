"""Your own log: the TOML file that describes it, a draft of that file, and its reader."""
