"""Content vectors and semantic ids of items."""
