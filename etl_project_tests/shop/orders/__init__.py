"""The sample pipeline: a shop's orders, one or more CSV files a day."""
