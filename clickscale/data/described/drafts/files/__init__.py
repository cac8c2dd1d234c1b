"""Files of undescribed tables: how a text divides into columns, and which file is which part."""
