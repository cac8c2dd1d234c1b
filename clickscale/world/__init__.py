"""The world: a simulated market whose true click probability of every impression is known."""
