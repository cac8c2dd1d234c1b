"""Raw tables: the bytes of a file as chunks of named columns."""
