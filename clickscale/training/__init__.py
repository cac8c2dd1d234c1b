"""Training, from batches to weights: objectives, optimizers, checkpoints, and the one loop."""
