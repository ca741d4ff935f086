"""FileRefused: a whole file cannot be used, in words for the one who sent it.

Belongs here: the one exception that says so. Does not belong here: a row that cannot be used (a reject, `judge`).
"""

from __future__ import annotations

from etl_project.failures import Permanent


class FileRefused(Permanent):
    """The file cannot be used as a whole. Retrying does not help: the file, or the contract, has to change."""

    def __init__(self, reason: str, found: str, expected: str) -> None:
        super().__init__(f"{reason}: found {found}; expected {expected}")
        self.reason = reason
        self.found = found
        self.expected = expected
