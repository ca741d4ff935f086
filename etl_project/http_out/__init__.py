"""HTTP out: each day's report is delivered at most once for each content."""
