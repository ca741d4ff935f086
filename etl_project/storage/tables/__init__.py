"""Tables: partitions as rows of SQL tables, in whatever catalog an engine opens."""
