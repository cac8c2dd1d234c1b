"""Preparation of a raw log into a data set."""
