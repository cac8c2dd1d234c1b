"""Numbers that a draft declares beside the columns of a log, and what calls for them."""
