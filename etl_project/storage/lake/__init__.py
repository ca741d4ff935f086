"""Lake: partitions as files, one a partition, the commit record inside."""
