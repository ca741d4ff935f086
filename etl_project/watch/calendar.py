"""Calendar: a strip of days, one sign a day, that reads without colour.

Belongs here: turning states by day into signs, and the months above them. Pure text; colours are names for rich.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from rich.text import Text

from etl_project.watch.status import State

SIGNS: Mapping[State, tuple[str, str]] = {
    "committed": ("■", "green"),
    "stale": ("≈", "cyan"),
    "failed": ("✗", "bold red"),
    "missing": ("·", "yellow"),
}


def strip(days: Sequence[date], states: Mapping[date, State]) -> Text:
    """One sign for each day; a day without a state is blank."""
    line = Text()
    for day in days:
        sign, style = SIGNS[states[day]] if day in states else (" ", "")
        line.append(sign, style)
    return line


def months(days: Sequence[date]) -> str:
    """The months above a strip of these days, each where its first day is; the year with the first and each January."""
    line = ""
    for place, day in enumerate(days):
        if place and day.day != 1:
            continue
        label = f"{day:%b %Y}" if not line or day.month == 1 else f"{day:%b}"
        if len(line) < place or not line:
            line = line.ljust(place) + label
    return line


def legend() -> Text:
    """What each sign means."""
    line = Text()
    for state, (sign, style) in SIGNS.items():
        line.append(sign, style).append(f" {state}   ")
    return line
