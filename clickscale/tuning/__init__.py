"""Search around the recipe: candidates, halving, the journal, the search and its outcome."""
