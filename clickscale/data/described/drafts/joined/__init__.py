"""Tables of a log that belong together: impressions, what came of them, their requests, and attributes."""
