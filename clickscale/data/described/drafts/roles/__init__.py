"""Roles of columns, guessed from names, values, and whether the item or the user determines them."""
