"""Exclusion: two runs never work on one partition of one asset at the same time, whoever dies."""
