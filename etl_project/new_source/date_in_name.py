"""Date in name: how the name of a sample, or its folders, say their day, as the pattern that later names will fit.

Belongs here: finding a date in any of the forms that senders use. Does not belong here: what a pattern means
(`name_pattern`). A name is the sender's own: nobody is told to change it.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import NamedTuple

from etl_project.sources import NamePattern

_ISO = r"(?<![0-9])[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])"
_FORMS = (
    (_ISO, None),
    (r"(?<![0-9])(?:19|20)[0-9]{6}(?=[0-9]{6}(?![0-9]))", "%Y%m%d"),
    (r"(?<![0-9])(?:19|20)[0-9]{6}(?![0-9])", "%Y%m%d"),
    (r"(?<![0-9])[0-9]{4}_[0-9]{2}_[0-9]{2}(?![0-9])", "%Y_%m_%d"),
    (r"(?<![0-9])[0-9]{4}\.[0-9]{2}\.[0-9]{2}(?![0-9])", "%Y.%m.%d"),
    (r"(?<![0-9])[0-9]{2}([-_.])[0-9]{2}\1[0-9]{4}(?![0-9])", "day or month first"),
    (r"(?<![0-9])[0-9]{4}-[0-9]{3}(?![0-9])", "%Y-%j"),
)
_TIME = re.compile(r"([T_-]?)([0-9]{6}|[0-9]{4}|[0-9]{2}[-:.][0-9]{2}(?:[-:.][0-9]{2})?)(?![0-9])")
_YEAR, _MONTH, _DAY = (
    re.compile(r"(\w+=)([0-9]{4})"),
    re.compile(r"(\w+=)([0-9]{1,2})"),
    re.compile(r"(\w+=)([0-9]{1,2})"),
)


class Placed(NamedTuple):
    """The pattern, the day of the sample, and what to review of its name. The last of several dates counts."""

    pattern: str
    day: date
    notes: tuple[str, ...]


def named_without_day(path: Path) -> str:
    """The pattern of a name that says no day: what is a number in it varies."""
    return re.sub("[0-9]+", "*", path.name)


def placed(path: Path) -> Placed | str | None:
    """What the name says of the day, else what its folders say; in words why that is none; None without one."""
    wrong = None
    for form, written in _FORMS:
        dates = list(re.finditer(form, path.name))
        if not dates:
            continue
        found = _in_name(path.name, form, dates, written)
        if isinstance(found, Placed):
            return found
        wrong = wrong or found
    return wrong or _in_folders(path)


def _in_name(name: str, form: str, dates: list[re.Match[str]], written: str | None) -> Placed | str:
    last = dates[-1]
    notes = [f"file name: {last[0]} is taken for the day, of several dates"] if len(dates) > 1 else []
    if written == "day or month first":
        separator, (first, second) = last[1], map(int, (last[0][:2], last[0][3:5]))
        if first <= 12 and second <= 12 and first != second:
            notes.append(
                f"file name: {last[0]} is read as day, month, year; if the month is first, turn %d and %m round"
            )
        parts = ("%m", "%d", "%Y") if second > 12 else ("%d", "%m", "%Y")
        written = separator.join(parts)
    word = "{date}" if written is None else f"{{date:{written}}}"
    read = NamePattern(word).last(last[0])
    if read is None or read.day is None:
        return f"the date {last[0]} in its name does not exist"
    before, after = re.sub(form, "*", name[: last.start()]), name[last.end() :]
    time = _TIME.match(after)
    if time is not None and time.start(2) == 0:
        notes.append(
            f"file name: {time[2]} is taken for a time of day: a later file of the day replaces an earlier one"
        )
        after = f"{{time}}{after[time.end() :]}"
    elif time is not None:
        notes.append(
            f"file name: {time[2]} is taken for a time of day, which does not matter; write {{time}} there if a "
            "later file of the day replaces an earlier one"
        )
        after = f"{time[1]}*{after[time.end() :]}"
    elif not after.startswith("."):
        notes.append(f"file name: later files have to end in {after!r} too; put * for what varies")
    return Placed(f"{before}{word}{after}", read.day, tuple(notes))


def _in_folders(path: Path) -> Placed | None:
    """Folders as Hive has them, or one that is called by its date."""
    parents = path.absolute().parent.parts
    stem, dot, suffix = path.name.partition(".")
    rest = f"*{dot}{suffix}" if stem else "*"
    if parents and re.fullmatch(_ISO, parents[-1]) and (read := NamePattern("{date}").last(parents[-1])) and read.day:
        return Placed(f"{{date}}/{rest}", read.day, ())
    if len(parents) < 3:
        return None
    year, month, day = (form.fullmatch(part) for form, part in zip((_YEAR, _MONTH, _DAY), parents[-3:], strict=True))
    if not (year and month and day):
        return None
    pattern = f"{year[1]}{{year}}/{month[1]}{{month}}/{day[1]}{{day}}/{rest}"
    read = NamePattern(pattern).last(f"{year[0]}/{month[0]}/{day[0]}/{path.name}")
    return Placed(pattern, read.day, ()) if read is not None and read.day is not None else None
