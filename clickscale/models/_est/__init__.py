"""The light stack of EST and its blocks."""
