"""Passes over the training part: how many, what each begins with, and a second training after them."""
