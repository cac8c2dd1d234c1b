"""Values inside of the values of a column: objects, lists of ids, and lists of what was shown."""
