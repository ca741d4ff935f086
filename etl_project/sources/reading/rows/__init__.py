"""Rows: which records of a file are rows, and which of them may stand beside each other.

Belongs here: rules over whole records. Does not belong here: what a single value may look like (`values`).
"""
