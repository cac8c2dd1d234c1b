"""Fast forms of attention that give the numbers of the dense form."""
