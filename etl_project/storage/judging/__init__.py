"""Judging: what every backend asks of a write: what comes in, where it belongs, how it differs, what is recorded."""
