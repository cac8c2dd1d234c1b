"""Optimizers: of dense weights, of embedding tables, and one step for all."""
