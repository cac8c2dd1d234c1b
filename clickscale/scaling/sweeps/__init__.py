"""Grids of runs: what they are, what they will cost, and their cells on this machine or on several."""
