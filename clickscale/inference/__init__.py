"""Scoring of raw requests."""
