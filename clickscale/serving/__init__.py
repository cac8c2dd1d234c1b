"""Answers to requests over HTTP, and the store of what users did."""
