"""XLSX: the rows of one sheet of an Excel workbook into chunks of records.

Belongs here: what a cell is as text. Does not belong here: what the text means (`convert`); going through text gives a
workbook exactly the rules of every other format.

A date without a time of day is a DATE where its cell is shown as one, else a time; a number is written out as it is
stored. An error (#N/A) or a formula that nobody has calculated is no value: its record is a reject. A row without any
value is no record. `source_line` is the number of the row in the sheet. The library is the extra `excel`.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import date, datetime
from decimal import Decimal
from itertools import zip_longest
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

import pyarrow as pa

from etl_project.sources.reading import compression, header
from etl_project.sources.reading.chunk import Broken, Chunk, Load
from etl_project.sources.reading.file_format import FileFormat, SourceFile
from etl_project.sources.reading.file_refused import FileRefused

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec

MOST_TEXT_BYTES = 256 * 2**20
"""The texts of a workbook lie in one part of it, which is held in memory."""

_ROWS_A_CHUNK = 5_000
_TEXTS = "xl/sharedStrings.xml"
_NO_SHEETS = (".rels", ".bin", ".vml", ".emf", ".wmf", ".png", ".jpg", ".jpeg", ".gif")
"""A sheet may be called anything: relations say which part it is."""
_FORMULA = re.compile(rb"<(?:[\w.-]{1,200}:)?f[\s/>]")
_LONGEST_TAG_BYTES = 256
_PIECE_BYTES = 2**20
_LOCKED = b"\xd0\xcf\x11\xe0"
Cells = tuple[Any, ...]


def chunks(file: SourceFile, spec: SourceSpec) -> Iterator[Load]:
    """The records of the sheet. Raises FileRefused for a file that is no workbook, has no such sheet or no header."""
    _refuse_other(file, spec)
    try:
        yield from _chunks(file, spec)
    except (zipfile.BadZipFile, KeyError, ValueError, ParseError, EOFError) as error:
        raise FileRefused("unreadable file", f"{type(error).__name__}: {error}"[:300], "an Excel workbook") from None


def _refuse_other(file: SourceFile, spec: SourceSpec) -> None:
    with file.path.open("rb") as opened:
        if opened.read(4) == _LOCKED:
            raise FileRefused("unreadable file", "a workbook with a password, or an old .xls", "an open .xlsx")
    try:
        with zipfile.ZipFile(file.path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
    except zipfile.BadZipFile as error:
        raise FileRefused("unreadable file", str(error), "an Excel workbook (.xlsx)") from None
    compression.refuse_large(sum(sizes.values()), file.path.stat().st_size, file, spec)
    if sizes.get(_TEXTS, 0) > MOST_TEXT_BYTES:
        raise FileRefused("too much text", f"{sizes[_TEXTS]} bytes", f"at most {MOST_TEXT_BYTES} in one workbook")


def _chunks(file: SourceFile, spec: SourceSpec) -> Iterator[Load]:
    rows = enumerate(_rows(file, spec), 1)
    for _ in range(spec.layout.skip_lines):
        next(rows, None)
    first = next((row for row in rows if _has_values(row[1])), None)
    if first is None:
        if spec.layout.header:
            raise FileRefused("no header", "a sheet without values", ", ".join(spec.columns))
        return
    names = _names(first[1], spec)
    match = header.match(names, spec, file)
    stretch = _Stretch(len(names), match, spec)
    if not spec.layout.header:
        stretch.add(*first)
    for number, cells in rows:
        stretch.add(number, cells)
        if stretch.is_full:
            chunk = stretch.chunk()
            yield lambda chunk=chunk: chunk  # type: ignore[misc]
            stretch = _Stretch(len(names), match, spec)
    yield stretch.chunk


def _rows(file: SourceFile, spec: SourceSpec) -> Iterator[Cells]:
    """The cells of each row, twice: with the values that Excel has calculated, and with the formulas themselves.

    A workbook without a formula, as most are, is read once.
    """
    from openpyxl import load_workbook  # noqa: PLC0415 - an extra, needed by this format alone

    with ExitStack() as opened:
        sheets = []
        for is_calculated in (True, False) if _may_have_formulas(file) else (True,):
            content = opened.enter_context(file.path.open("rb"))
            workbook = opened.enter_context(closing(load_workbook(content, read_only=True, data_only=is_calculated)))
            sheet = workbook[_sheet(workbook.sheetnames, spec)]
            sheet.reset_dimensions()  # What a file says about its own size is often wrong, and would cut it.
            sheets.append(sheet.rows)
        for row, written in zip_longest(sheets[0], sheets[1] if sheets[1:] else (), fillvalue=()):
            yield tuple(zip_longest(row, written))


def _may_have_formulas(file: SourceFile) -> bool:
    """Whether a part has an element that is called as formulas are, whatever its prefix, or is of two-byte letters."""
    with zipfile.ZipFile(file.path) as archive:
        for name in archive.namelist():
            if name == _TEXTS or name.lower().endswith(_NO_SHEETS):
                continue
            with archive.open(name) as part:
                before = b""
                while piece := part.read(_PIECE_BYTES):
                    if b"\0" in piece or _FORMULA.search(before + piece):
                        return True
                    before = piece[-_LONGEST_TAG_BYTES:]
    return False


def _sheet(names: Sequence[str], spec: SourceSpec) -> str:
    wanted = spec.layout.sheet
    if wanted and wanted not in names:
        raise FileRefused("no such sheet", ", ".join(map(repr, names)), f"the sheet {wanted!r} (sheet)")
    if not wanted and len(names) > 1:
        expected = f"one sheet; say which one is read, like sheet: {names[0]}"
        raise FileRefused("several sheets", ", ".join(map(repr, names)), expected)
    return wanted or names[0]


def _has_values(cells: Cells) -> bool:
    return any(_is_something(cell) for cell in cells)


def _is_something(cell: tuple[Any, Any]) -> bool:
    value, written = cell
    return (value is not None and value.value is not None) or (written is not None and written.value is not None)


def _names(cells: Cells, spec: SourceSpec) -> list[str]:
    texts = [_text(value) if value is not None else None for value, _ in cells]
    while texts and texts[-1] is None:
        texts.pop()
    found = [text or "" for text in texts]
    if spec.layout.header:
        return found
    names = list(spec.layout.field_names or spec.columns)
    if found == names:
        raise FileRefused("a header", ", ".join(found)[:200], "records; write `header: true`, or leave it out")
    return names


def _text(cell: Any) -> str | None:
    value = cell.value
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return format(Decimal(repr(value)), "f")
    if isinstance(value, datetime):
        shown_as_day = not any(letter in str(cell.number_format).lower().partition(";")[0] for letter in "hs")
        return value.date().isoformat() if shown_as_day and value.time() == value.min.time() else value.isoformat(" ")
    return value.isoformat() if isinstance(value, date) else str(value)


class _Stretch:
    """Rows that are read one after the other, as one chunk."""

    def __init__(self, width: int, match: header.Match, spec: SourceSpec) -> None:
        self._width, self._match = width, match
        self._null_values = spec.values.null_values
        self._rows: list[list[str | None]] = []
        self._numbers: list[int] = []
        self._broken: list[Broken] = []

    @property
    def is_full(self) -> bool:
        return len(self._rows) + len(self._broken) >= _ROWS_A_CHUNK

    def add(self, number: int, cells: Cells) -> None:
        """A row of the sheet."""
        if not _has_values(cells):
            return
        texts = [None if value is None else _text(value) for value, _ in cells]
        why = next((why for cell in cells if (why := self._why_not(cell))), None)
        if why is None and any(text is not None for text in texts[self._width :]):
            filled = max(at for at, text in enumerate(texts, 1) if text is not None)
            why = f"{filled} cells instead of {self._width}"
        if why is not None:
            self._broken.append(Broken(number, why, _raw(texts)))
            return
        self._rows.append([*texts[: self._width], *[None] * (self._width - len(texts))])
        self._numbers.append(number)

    def _why_not(self, cell: tuple[Any, Any]) -> str | None:
        value, written = cell
        if value is not None and value.data_type == "e" and value.value not in self._null_values:
            return f"the cell {value.coordinate} holds the error {value.value}"
        if written is not None and written.data_type == "f" and (value is None or value.value is None):
            return f"the cell {written.coordinate} holds a formula that was never calculated"
        return None

    def chunk(self) -> Chunk:
        """All of them."""
        rows = self._rows
        columns = [pa.array([row[at] for row in rows], pa.string()) for at in range(self._width)]
        texts = self._match.texts(columns, len(rows))
        numbers = pa.array(self._numbers, pa.int64())
        return Chunk(texts, numbers, lambda which: [_raw(rows[one]) for one in which], self._broken)


def _raw(texts: Sequence[str | None]) -> str:
    return json.dumps(texts, ensure_ascii=False)


XLSX = FileFormat(
    chunks,
    settings=frozenset({"skip_lines", "header", "field_names", "sheet"}),
    is_packed=False,
    library="openpyxl",
    extra="excel",
)
