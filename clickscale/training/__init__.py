"""From batches to trained weights: objectives, optimizers, checkpoints, and the one loop."""
