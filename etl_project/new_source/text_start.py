"""Text start: how a text file of fields is parted, and what stands before its records, found out from its first lines.

Belongs here: the delimiter, a `sep=` line, lines above the header, the header or its absence, a delimiter at the end of
each line. Does not belong here: what the fields hold (`column_types`), reading all of it (`sources.reading.csv`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from etl_project.new_source.containers import CannotUse
from etl_project.sources import BrokenRecord, Grammar, bare

DELIMITERS = (",", ";", "\t", "|")
RECORDS_LOOKED_AT = 200
_VALUE = re.compile(r"[+-]?[0-9]*[.,]?[0-9]+|[0-9]{4}-[0-9]{2}-[0-9]{2}([ T].*)?")
_SEP_LINE = re.compile(r"\"?sep=(?P<mark>[^\"]?)\"?[^A-Za-z0-9]*", re.IGNORECASE)
_MOST_TITLES = 30
_FEWEST_RECORDS = 2
"""Below lines that may be titles: so many records have to look like their header before it is taken for one."""
_MOST, _HALF = 0.9, 0.5


class TextStart(NamedTuple):
    """How the file is parted. `words`: what `defs.yaml` has to say of it beside the delimiter."""

    delimiter: str
    names: tuple[str, ...]
    words: dict[str, Any]
    notes: tuple[str, ...]


def of(lines: Sequence[str]) -> TextStart:
    """What the first lines of a file say. Raises CannotUse where they have no header that can be read."""
    sep = _SEP_LINE.fullmatch(bare(lines[0])) if len(lines) > 1 else None
    own = sep["mark"] if sep is not None else ""
    below = lines[1:] if sep is not None else lines
    delimiter = own or max(DELIMITERS, key=lambda one: _fitness(below, one))
    titles = None
    if sep is None and min(_fitness(below, delimiter)[:2]) < _HALF:
        titles = _below_titles(lines)
    words: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    if titles is not None:
        skipped, delimiter = titles
        below = lines[skipped:]
        words["skip_lines"] = skipped
        notes = (f"skip_lines: {skipped} lines stand above the header, the first is {bare(lines[0])[:60]!r}",)
    names = _header(below[0], delimiter)
    if _ends_in_a_delimiter(names, list(_records(below, delimiter))[1:]):
        words["trailing_delimiter"] = True
        names = names[:-1] if not names[-1] else names
    value = next((name for name in names if _VALUE.fullmatch(name)), None)
    if value is not None:
        names = tuple(f"column_{number}" for number in range(1, len(names) + 1))
        words |= {"header": False, "field_names": list(names)}
        taken = f"header: the first line holds the value {value!r}, so it is taken for a row"
        notes = (*notes, f"{taken}; give the columns their names")
    return TextStart(delimiter, names, words, notes)


def _records(lines: Sequence[str], delimiter: str) -> Iterator[list[str]]:
    """The first records; one that cannot be read has no fields."""
    grammar = Grammar(delimiter, len("".join(lines)) + 1)
    at = found = 0
    while at < len(lines) and found < RECORDS_LOOKED_AT:
        try:
            fields, at = grammar.record(lines, at)
        except BrokenRecord:
            fields, at = [], at + 1
        found += 1
        yield list(fields)


def _fitness(lines: Sequence[str], delimiter: str) -> tuple[bool, float, int]:
    """How well a delimiter cuts the first records: more than one column, as wide as the header, many columns."""
    widths = [len(fields) for fields in _records(lines, delimiter)]
    return widths[0] > 1, widths.count(widths[0]) / len(widths), widths[0]


def _below_titles(lines: Sequence[str]) -> tuple[int, str] | None:
    """The number of lines above the header, and the delimiter: nearly all lines from there on are parted alike."""
    for at in range(1, min(len(lines) - _FEWEST_RECORDS, _MOST_TITLES + 1)):
        for delimiter in DELIMITERS:
            header, *rows = _records(lines[at:], delimiter)
            widths = Counter(len(fields) for fields in rows if any(fields))
            names_all = all(name.strip() and not _VALUE.fullmatch(name) for name in header)
            alike = widths[len(header)]
            if (
                len(header) > 1 and names_all and alike >= max(_FEWEST_RECORDS, _MOST * (widths.total() - 1))
            ):  # The last may be a total.
                return at, delimiter
    return None


def _ends_in_a_delimiter(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a delimiter more stands at the end of the lines, of the header or of the rows, with nothing after it."""
    width = len(names) - (names[-1:] == ("",))
    if width < 1 or (names[-1] and not any(len(row) == width + 1 for row in rows)):
        return False
    fitting = [row for row in rows if len(row) == width or (len(row) == width + 1 and not row[-1])]
    return len(fitting) >= max(1, _MOST * len(rows))


def _header(line: str, delimiter: str) -> tuple[str, ...]:
    """The fields of the first line."""
    try:
        names, _ = Grammar(delimiter, len(line) + 1).record([bare(line) + "\n"], 0)
    except BrokenRecord as error:
        raise CannotUse(f"its first line is no header: {line[:80]!r} ({error})") from None
    return tuple(names)
