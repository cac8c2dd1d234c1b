"""Server: answers requests over HTTP from a loaded artifact, within a deadline."""
