"""Versions of a model: published, loaded, tried, promoted, taken back."""
