"""Proofs: that what is stored is what was committed (verify) and what a rebuild gives (reproducible, prove)."""
