"""The day of a name: what day a file belongs to, by the patterns of its source.

Belongs here: reading the one date that counts out of a file name, and saying why there is none. Pure, and light: the
scan asks it for every file that waits, the receiver for every file that somebody wants to send. Does not belong here:
looking at files (`intake.scan`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta

from etl_project.sources.name_pattern import NamePattern

VERSION = re.compile(r"[0-9]{6,}-[0-9a-f]{64}")
"""How the archive names a version; a folder called so inside a drop folder could be mistaken for one."""

_ANY_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_LENGTH = len("YYYY-MM-DD")
_AHEAD = timedelta(days=1)


def refusal(patterns: Sequence[NamePattern], name: str) -> str | None:
    """Why a source whose rows say their day does not take this name; None where it does. A date in it has to exist."""
    if "/" in name and any(VERSION.fullmatch(part) for part in name.split("/")):
        return "part of its path has the form of an archived version"
    found = [read for pattern in patterns if (read := pattern.last(name)) is not None]
    if not found:
        return f"the name does not match; expected {' or '.join(pattern.expected for pattern in patterns)}"
    if all(read.text and read.day is None for read in found):
        return f"the date {found[0].text} does not exist"
    return None


class DaysOfNames:
    """The day of each name, or the reason why there is none. Remembers the dates it has read: one a scan or request.

    `first` is the first day of the source, `today` the UTC day of now: a day further ahead than tomorrow is none.
    """

    def __init__(self, patterns: Sequence[str], first: date, today: date) -> None:
        self.today = today
        self._first = first
        self._patterns = [NamePattern(pattern) for pattern in patterns]
        self._expected = " or ".join(pattern.expected for pattern in self._patterns)
        self._is_plain = all(pattern.is_plain for pattern in self._patterns)
        self._read: dict[tuple[str, str], date | str] = {}

    def place(self, name: str) -> date | str:
        """The day of the file, or why it has none. A name that could mean two days means none."""
        if "/" in name and any(VERSION.fullmatch(part) for part in name.split("/")):
            return "part of its path has the form of an archived version"
        found: list[date | str] = []
        for pattern in self._patterns:
            span = pattern.span(name)
            if span is not None:
                said = self._day(pattern, name, *span)
                if self._is_plain:
                    return said  # They write the day in one way, so that the first one that fits says it.
                found.append(said)
        days = {day for day in found if isinstance(day, date)}
        if len(days) > 1:
            shown = " and ".join(map(str, sorted(days)))
            return f"the name can be read as {shown}; the patterns must leave one way to read it"
        return days.pop() if days else next(iter(found), f"the name does not match; expected {self._expected}")

    def _day(self, pattern: NamePattern, name: str, start: int, end: int) -> date | str:
        text = name[start:end]
        if not self._is_plain or (start >= _DATE_LENGTH and _ANY_DATE.search(name, 0, start)):
            other = pattern.first(name)
            if other is not None and other.text != text:
                return f"the name holds two dates, {other.text} and {text}; the pattern must say which one counts"
        day = self._read.get((pattern.pattern, text))
        if day is None:
            read = pattern.last(name)
            known = read.day if read is not None else None
            day = f"the date {text} does not exist" if known is None else self._why_not(known, text) or known
            self._read[pattern.pattern, text] = day
        return day

    def _why_not(self, day: date, text: str) -> str | None:
        if day < self._first:
            return f"the date {text} lies before the first day of the source, {self._first}"
        if day - self.today > _AHEAD:
            return f"the date {text} lies more than a day ahead (today is {self.today}, UTC)"
        return None
