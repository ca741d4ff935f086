"""A made-up shop with real dirt, the same on every machine."""
