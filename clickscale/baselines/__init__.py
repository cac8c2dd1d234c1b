"""Baselines that are not neural models."""
