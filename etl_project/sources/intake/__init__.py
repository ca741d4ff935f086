"""Intake: from the drop folder to the archive: which files there are, and how one becomes an accepted version."""
