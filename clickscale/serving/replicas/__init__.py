"""Several servers behind one address: each user has one of them, which keeps the states of that user."""
