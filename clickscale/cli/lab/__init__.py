"""The verbs that train many runs."""
