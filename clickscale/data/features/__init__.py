"""Indices, scaled numbers and statistics of raw values, for training and for serving."""
