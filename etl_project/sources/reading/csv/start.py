"""CSV start: what comes before the records of a file of delimited text, and what it says about them.

Belongs here: lines that are skipped, a `sep=` line, comments, the header or the names that stand in for it, and which
of several delimiters the file has. Does not belong here: the records themselves (`records`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from etl_project.sources.reading import header
from etl_project.sources.reading.csv.dialect import Dialect
from etl_project.sources.reading.csv.grammar import BrokenRecord, bare
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec

_SEP_LINE = re.compile(r"\s*\"?sep=(?P<mark>[^\"]?)\"?[^A-Za-z0-9]*", re.IGNORECASE)


class Start(NamedTuple):
    """How the records of a file are to be read: `width` fields, the first of them on line `line`."""

    match: header.Match
    width: int
    line: int
    dialect: Dialect


class Head:
    """The lines at the start of a file, taken one by one; what is not taken is left in `rest`."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.rest = b""
        self.line = 1

    def peek(self) -> str | None:
        """The next line, without its end; None at the end of the file."""
        if not self.rest:
            self.rest = next(self._blocks, b"")
        return bare(self.rest.partition(b"\n")[0].decode("utf-8")) if self.rest else None

    def take(self) -> None:
        """Go on to the line after that."""
        self.rest = self.rest.partition(b"\n")[2]
        self.line += 1


def read(head: Head, spec: SourceSpec, file: SourceFile) -> Start | None:
    """Read up to the first record; None for a file that ends before. Raises FileRefused for what is no such start."""
    layout = spec.layout
    for _ in range(layout.skip_lines):
        if head.peek() is None:
            raise FileRefused("too few lines", f"{head.line - 1} lines", f"more than {layout.skip_lines} (skip_lines)")
        head.take()
    separators = _after_sep_line(head, spec)
    while layout.comment and (head.peek() or "").startswith(layout.comment):
        head.take()
    first = head.peek()
    if first is None:
        if layout.header:
            raise FileRefused("no header", "the end of the file", ", ".join(spec.columns))
        return None
    start = _told_by(first, head.line + layout.header, separators, spec, file)
    if layout.header:
        head.take()
    return start


def _told_by(first: str, line: int, separators: Sequence[str], spec: SourceSpec, file: SourceFile) -> Start:
    """The start of a file with this first line; `line` is that of its first record."""
    layout = spec.layout
    refusals: list[FileRefused] = []
    unsure: list[Start] = []
    for separator in separators:
        dialect = Dialect(separator, layout.quote, layout.escape)
        try:
            fields = _fields(first, dialect, spec)
            names = _names(fields, first, spec, file)
            match = header.match(names, spec, file)
        except FileRefused as refused:
            refusals.append(refused)
            continue
        start = Start(match, len(names), line, dialect)
        if _is_sure(start, fields, spec):
            return start
        unsure.append(start)
    if unsure:
        return unsure[0]
    raise _advised(refusals[0], first, spec)


def _is_sure(start: Start, fields: Sequence[str], spec: SourceSpec) -> bool:
    """Whether the first line says that this delimiter is that of the file. One that it lacks makes one field of it,
    and where columns may be absent (as in any file of the archive), and others be there, that would fit as well."""
    if spec.layout.header:
        return any(at is not None for at in start.match.positions)
    return len(fields) == len(spec.layout.field_names or spec.columns)


def _after_sep_line(head: Head, spec: SourceSpec) -> Sequence[str]:
    """The delimiters that the file may have, after the `sep=` line that Excel writes and reads, where there is one."""
    found = _SEP_LINE.fullmatch(head.peek() or "")
    if found is None or any(name.lower().startswith("sep=") for name in spec.columns):
        return spec.separators
    head.take()
    if found["mark"] and found["mark"] not in spec.separators:
        expected = f"{' or '.join(map(repr, spec.separators))}; write `delimiter: {found['mark']!r}`"
        raise FileRefused("another delimiter", f"a line that says sep={found['mark']}", expected)
    return [found["mark"]] if found["mark"] else spec.separators


def _fields(first: str, dialect: Dialect, spec: SourceSpec) -> list[str]:
    """The fields of the first line, without the empty one behind a trailing delimiter."""
    layout = spec.layout
    try:
        fields, _ = dialect.grammar(spec.max_line_bytes).record([first + "\n"], 0)
    except BrokenRecord as error:
        if layout.header:
            raise FileRefused("unreadable header", f"{first[:200]!r} ({error})", ", ".join(spec.columns)) from None
        return []  # It will be a reject like any other.
    trailing = layout.trailing_delimiter and len(fields) > 1 and not fields[-1]
    return fields[:-1] if trailing else fields


def _names(fields: list[str], first: str, spec: SourceSpec, file: SourceFile) -> list[str]:
    """The names of the fields: those of the header, or those that stand in for it."""
    layout = spec.layout
    if layout.header:
        return fields
    names = list(layout.field_names or spec.columns)
    if fields == names:
        raise FileRefused("a header", repr(first[:200]), "records; write `header: true`, or leave it out")
    width = len(fields) or len(names)
    if width < len(names) and all(_may_end_before(name, spec, file) for name in names[width:]):
        return names[:width]
    return [*names, *(f"column_{number}" for number in range(len(names) + 1, width + 1))]


def _may_end_before(name: str, spec: SourceSpec, file: SourceFile) -> bool:
    """Whether the records of a file without a header may end before this field."""
    column = spec.columns.get(name)
    return column is None or spec.layout.may_lack(column, file.day) or (file.accepted and spec.column(column).nullable)


def _advised(refusal: FileRefused, first: str, spec: SourceSpec) -> FileRefused:
    """The refusal, with the setting that would help where the first line shows it."""
    advice: list[str] = []
    if "\r" in first:
        advice.append("carriage returns alone end lines with `line_ends: any`")
    if not spec.layout.trailing_delimiter and any(first.endswith(one) for one in spec.separators):
        advice.append("an empty last column goes with `trailing_delimiter: true`")
    known = {header.relaxed(name) for name in spec.columns}
    if spec.layout.header and not any(name in header.relaxed(first) for name in known if name):
        advice.append("lines before the header go with `skip_lines`, files without one with `header: false`")
    for other in ",;\t|":
        if other not in spec.separators and {header.relaxed(one.strip('"')) for one in first.split(other)} & known:
            advice.append(f"it may be `delimiter: {other!r}`")
            break
    return FileRefused(refusal.reason, refusal.found, "; ".join([refusal.expected, *advice])[:2000])
