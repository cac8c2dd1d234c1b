"""Checks of a prepared data set: contents, leaks, and features that give the label away."""
