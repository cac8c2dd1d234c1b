"""Analyses that take one model apart."""
