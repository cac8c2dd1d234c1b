"""Checks of a prepared data set: its contents, leaks, and features that tell the label."""
