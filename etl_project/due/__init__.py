"""Due: what should be built and is not, and the ways to ask for it."""
