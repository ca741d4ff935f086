"""CSV: blocks, grammar and records of delimited text."""
