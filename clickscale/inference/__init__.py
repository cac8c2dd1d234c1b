"""From raw requests to scores."""
