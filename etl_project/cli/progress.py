"""Progress: a line now and then while a command is at work, so that nothing over two seconds is silent.

Belongs here: when a line is due, and where it goes: standard error, so that standard output stays what scripts read.
Where standard error is for JSON lines (ETL_LOG_FORMAT=json), which tell of every step, there are none.
"""

from __future__ import annotations

import sys
import time

from etl_project import settings

SECONDS_BETWEEN_LINES = 1.0


class Progress:
    """Says what has been done, at most once a second; what falls into the pause between is said with the next line."""

    def __init__(self) -> None:
        self._silent = settings.log_format() == "json"
        self._last = time.monotonic()
        self._unsaid: list[str] = []

    def done(self, what: str) -> None:
        """Note that something is done, and say so if there was no line for a while."""
        self._unsaid.append(what)
        if not self._silent and time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            print(f"    {', '.join(self._unsaid)}", file=sys.stderr, flush=True)  # noqa: T201
            self._unsaid.clear()
            self._last = time.monotonic()
