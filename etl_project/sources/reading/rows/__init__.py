"""Rows: which records of a file are rows, and which of them may stand beside each other.

Belongs here: rules over whole records. Does not belong here: what a single value may look like (`values`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    {"control_totals", "repeated_hours", "row_rules", "row_settings", "row_sql", "row_words", "skipping", "twins"},
)
