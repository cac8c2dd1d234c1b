"""Labels of a draft: which columns hold outcomes, and how the TOML says so."""
