"""The verbs that answer requests, offline and online."""
