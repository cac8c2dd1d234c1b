"""User states between requests: keys, admission, eviction, and the cache."""
