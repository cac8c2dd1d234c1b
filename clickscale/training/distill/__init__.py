"""Distillation: its options, its two models in one run, and the folders that it leaves."""
