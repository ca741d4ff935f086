"""The day of a name: what day a file belongs to, by the patterns of its source.

Belongs here: reading the one date that counts out of a file name, and saying why there is none. Pure, and light: the
scan asks it for every file that waits, the receiver for every file that somebody wants to send. Does not belong here:
looking at files (`intake.scan`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta

VERSION = re.compile(r"[0-9]{6,}-[0-9a-f]{64}")
"""How the archive names a version; a folder called so inside a drop folder could be mistaken for one."""

_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_DATE_LENGTH = len("YYYY-MM-DD")
_ANY_DATE = re.compile(_DATE)
_AHEAD = timedelta(days=1)


class DaysOfNames:
    """The day of each name, or the reason why there is none. Remembers the dates it has read: one a scan or request.

    `first` is the first day of the source, `today` the UTC day of now: a day further ahead than tomorrow is none.
    """

    def __init__(self, patterns: Sequence[str], first: date, today: date) -> None:
        self.today = today
        self._first = first
        self._expected = " or ".join(pattern.replace("{date}", "YYYY-MM-DD") for pattern in patterns)
        self._shapes = [(_shape(pattern, "*"), _shape(pattern, "*?")) for pattern in patterns]
        self._read: dict[str, date | str] = {}

    def place(self, name: str) -> date | str:
        """The day of the file, or why it has none. A name that could mean two days means none."""
        if "/" in name and any(VERSION.fullmatch(part) for part in name.split("/")):
            return "part of its path has the form of an archived version"
        for last, first in self._shapes:
            found = last.fullmatch(name)
            if found is None:
                continue
            text = found[1]
            if found.start(1) >= _DATE_LENGTH and _ANY_DATE.search(name, 0, found.start(1)):
                other = first.fullmatch(name)
                if other is not None and other[1] != text:
                    return f"the name holds two dates, {other[1]} and {text}; the pattern must say which one counts"
            day = self._read.get(text)
            if day is None:
                day = self._read[text] = self._day(text)
            return day
        return f"the name does not match; expected {self._expected}"

    def _day(self, text: str) -> date | str:
        try:
            day = date.fromisoformat(text)
        except ValueError:
            return f"the date {text} does not exist"
        if day < self._first:
            return f"the date {text} lies before the first day of the source, {self._first}"
        if day - self.today > _AHEAD:
            return f"the date {text} lies more than a day ahead (today is {self.today}, UTC)"
        return day


def _shape(pattern: str, many: str) -> re.Pattern[str]:
    """The pattern as a regular expression; `many` is `*` to find the last date that fits and `*?` for the first."""
    before, _, after = pattern.partition("{date}")
    return re.compile(f"{_wild(before, many)}(?<![0-9])({_DATE})(?![0-9]){_wild(after, many)}", re.DOTALL)


def _wild(text: str, many: str) -> str:
    return "".join({"*": "." + many, "?": "."}.get(char) or re.escape(char) for char in text)
