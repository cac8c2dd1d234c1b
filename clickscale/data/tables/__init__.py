"""Raw tables: from the bytes of a file to chunks of named columns."""
