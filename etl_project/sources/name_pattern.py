"""Name pattern: one pattern of file names, as a source declares it, and the date and time that a name holds.

Belongs here: the words in braces, what is wrong with a pattern, and the way from a name to a date and back. Does not
belong here: which days a source has (`day_of_name`). Nothing asks the locale: names of months are English.

`*` is anything, folders too, and `?` one character. The day is `{date}` (YYYY-MM-DD), `{date:FORMAT}` with the
directives of strftime(3) in DIRECTIVES, or `{year}`, `{month}` and `{day}`. `{time}` is a time of day: names that
differ in it alone are versions of one file, the latest time being the newest.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import NamedTuple

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FULL_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_SHORT, _SHORT_BEFORE_TEXT = "[0-9]{2}", "[0-9]{1,2}"

DIRECTIVES = {
    "%Y": "[0-9]{4}",
    "%y": "[0-9]{2}",
    "%m": _SHORT,
    "%d": _SHORT,
    "%j": "[0-9]{3}",
    "%b": "(?i:" + "|".join(_MONTHS) + ")",
    "%B": "(?i:" + "|".join(_FULL_MONTHS) + ")",
}
"""What may stand in `{date:FORMAT}`: year, month, day of the month or of the year, English names of months."""

_WORDS = {"{year}": "%Y", "{month}": "%m", "{day}": "%d"}
_PLAIN = "%Y-%m-%d"
_TIME = "[0-9]{2}[-:._]?[0-9]{2}(?:[-:._]?[0-9]{2}(?:[.,]?[0-9]{1,9})?)?"
_PIECE = re.compile(r"\{date(?::[^{}]*)?\}|\{year\}|\{month\}|\{day\}|\{time\}|\*|\?|[^{*?]+|\{")
_WORD = re.compile(r"\{[A-Za-z_]+(?::[^{}]*)?\}")
_IN_FORMAT = re.compile("%.?|[^%]+", re.DOTALL)


class Read(NamedTuple):
    """What a name holds: the text of its day, that day (None: no such day), the name without its time, the time."""

    text: str
    day: date | None
    group: str
    time: str


class NamePattern:
    """One pattern, compiled. Raises ValueError naming what is wrong with it, and a right example.

    A pattern that need not be `dated` may hold no date at all. `orders`: its names hold a date or a time.
    """

    def __init__(self, pattern: str, *, dated: bool = True) -> None:
        self.pattern = pattern
        self.forms = _forms(pattern)
        problem = None if not dated and _has_no_date(pattern) else _problem(pattern, self.forms)
        if problem is not None:
            raise ValueError(f"pattern {pattern!r} {problem}")
        # Where a name could be read in two ways, the last date that fits and the first one tell.
        self._last = re.compile(_regex(pattern, "*"), re.DOTALL)
        self._first = re.compile(_regex(pattern, "*?"), re.DOTALL)
        groups = [number for name, number in self._last.groupindex.items() if name != "time"]
        self._begins, self._ends = min(groups, default=0), max(groups, default=0)
        self.orders = bool(self._last.groupindex)

    @property
    def is_plain(self) -> bool:
        """Whether the day is written as `{date}`."""
        return self.forms == ("%Y", "%m", "%d") and "{date}" in self.pattern

    @property
    def expected(self) -> str:
        """The pattern for a person."""
        return self.pattern.replace("{date}", "YYYY-MM-DD")

    def span(self, name: str) -> tuple[int, int] | None:
        """Where the last date of the name is that fits, quickly; None where the name does not fit."""
        found = self._last.fullmatch(name)
        return None if found is None else (found.start(self._begins), found.end(self._ends))

    def last(self, name: str) -> Read | None:
        """The name, read so that its last date counts; None where it does not fit the pattern."""
        return _read(self._last.fullmatch(name))

    def first(self, name: str) -> Read | None:
        """The name, read so that its first date counts."""
        return _read(self._first.fullmatch(name))


def filled(pattern: str, day: date) -> str:
    """The pattern with this day, and midnight, in place of its words."""
    text = ""
    for piece in _PIECE.findall(pattern):
        if piece.startswith("{date"):
            text += _formatted(piece[6:-1] or _PLAIN, day)
        elif piece in _WORDS:
            text += _formatted(_WORDS[piece], day)
        else:
            text += "000000" if piece == "{time}" else piece
    return text


def _forms(pattern: str) -> tuple[str, ...]:
    """The directives that the pattern holds, those of words included."""
    found: list[str] = []
    for piece in _PIECE.findall(pattern):
        if piece.startswith("{date"):
            found += [one for one in _IN_FORMAT.findall(piece[6:-1] or _PLAIN) if one.startswith("%")]
        elif piece in _WORDS:
            found.append(_WORDS[piece])
    return tuple(found)


def _has_no_date(pattern: str) -> bool:
    """Whether nothing in braces stands in the pattern but one {time}."""
    return set(_WORD.findall(pattern)) <= {"{time}"} and pattern.count("{time}") <= 1


def _problem(pattern: str, forms: tuple[str, ...]) -> str | None:
    pieces = _PIECE.findall(pattern)
    dates = [piece for piece in pieces if piece.startswith("{date")]
    words = [piece for piece in pieces if piece in _WORDS]
    if len(dates) + bool(words) != 1:
        return "must hold {date} exactly once, or {date:%Y%m%d} in the form of its names, or {year}, {month} and {day}"
    strange = sorted(set(_WORD.findall(pattern)) - {piece for piece in pieces if piece.startswith("{")})
    if strange:
        return (
            f"holds {', '.join(strange)}; there are {{date}}, {{date:FORMAT}}, {{year}}, {{month}}, {{day}}, {{time}}"
        )
    unknown = sorted(set(forms) - DIRECTIVES.keys())
    if unknown:
        return f"holds {', '.join(unknown)}; a date can be written with {', '.join(DIRECTIVES)}, like {{date:%d-%m-%Y}}"
    if len(set(forms)) < len(forms) or pieces.count("{time}") > 1:
        return "holds a part of the date, or {time}, twice; write * for what varies, like *_{date:%Y%m%d}.csv"
    has = set(forms)
    year, in_year = has & {"%Y", "%y"}, (has & {"%m", "%b", "%B"} and "%d" in has) or "%j" in has
    if len(year) != 1 or not in_year or len(has & {"%m", "%b", "%B", "%j"}) != 1:
        return "does not say a whole date; write year, month and day, like {date:%Y%m%d}, or {date:%Y-%j}"
    return None


def _regex(pattern: str, many: str) -> str:
    """The pattern as a regular expression; `many` is `*` to find the last date that fits and `*?` for the first."""
    pieces = _PIECE.findall(pattern)
    text = ""
    for at, piece in enumerate(pieces):
        before = text and pieces[at - 1].startswith("{")
        after = at + 1 < len(pieces) and pieces[at + 1].startswith("{")
        if piece.startswith("{date") or piece in _WORDS or piece == "{time}":
            inner = f"(?P<time>{_TIME})" if piece == "{time}" else _of_date(piece)
            # Digits beside it would be of a longer number; another word may follow at once.
            text += ("" if before else "(?<![0-9])") + inner + ("" if after else "(?![0-9])")
        else:
            text += {"*": f".{many}", "?": "."}.get(piece) or re.escape(piece)
    return text


def _of_date(piece: str) -> str:
    if piece in _WORDS:
        form = _WORDS[piece]
        return f"(?P<{form[1]}>{DIRECTIVES[form] if form == '%Y' else _SHORT_BEFORE_TEXT})"
    plain = piece == "{date}"
    parts = _IN_FORMAT.findall(piece[6:-1] or _PLAIN)
    text = ""
    for at, part in enumerate(parts):
        if not part.startswith("%"):
            text += re.escape(part)
            continue
        alone = not plain and (at + 1 == len(parts) or not parts[at + 1].startswith("%")) and len(parts) > 1
        alone = alone and (at == 0 or not parts[at - 1].startswith("%"))
        text += f"(?P<{part[1]}>{_SHORT_BEFORE_TEXT if alone and part in ('%m', '%d') else DIRECTIVES[part]})"
    return text


def _read(found: re.Match[str] | None) -> Read | None:
    if found is None:
        return None
    parts = found.groupdict()
    time = parts.pop("time", None)
    start = min((found.start(one) for one in parts), default=0)
    text = found.string[start : max((found.end(one) for one in parts), default=0)]
    group = found.string if time is None else found.string[: found.start("time")] + found.string[found.end("time") :]
    digits = "" if time is None else "".join(char for char in time if char.isdigit()).ljust(15, "0")
    return Read(text, _date(parts) if parts else None, group, digits)


def _date(parts: dict[str, str]) -> date | None:
    year = int(parts["Y"]) if "Y" in parts else _century(int(parts["y"]))
    try:
        if "j" in parts:
            day = date(year, 1, 1) + timedelta(days=int(parts["j"]) - 1)
            return day if day.year == year else None
        return date(year, _month(parts), int(parts["d"]))
    except (ValueError, OverflowError):
        return None


def _century(year: int) -> int:
    """As POSIX has it: 69 to 99 are of the twentieth century."""
    return 1900 + year if year >= 69 else 2000 + year


def _month(parts: dict[str, str]) -> int:
    if "m" in parts:
        return int(parts["m"])
    return _MONTHS.index((parts.get("b") or parts["B"])[:3].lower()) + 1


def _formatted(form: str, day: date) -> str:
    return "".join(_directive(part, day) if part.startswith("%") else part for part in _IN_FORMAT.findall(form))


def _directive(part: str, day: date) -> str:
    month = _FULL_MONTHS[day.month - 1].capitalize()
    numbers = {"%Y": f"{day.year:04}", "%y": f"{day.year % 100:02}", "%m": f"{day.month:02}", "%d": f"{day.day:02}"}
    return {**numbers, "%j": f"{day.timetuple().tm_yday:03}", "%b": month[:3], "%B": month}[part]
