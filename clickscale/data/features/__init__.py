"""From raw values to indices, scaled numbers and statistics, for training and for serving."""
