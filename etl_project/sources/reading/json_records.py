"""JSON documents: objects one after the other, over as many lines as they like, alone or in one array.

Belongs here: finding where an object ends. Does not belong here: what an object gives (`json_values`).

The file is read as a stream; an object is held in memory whole, and may have `max_line_bytes`. Text that is no JSON
leaves no way to tell where the next record starts, so it refuses the file. `source_line` is the line on which an object
starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from etl_project.sources.reading import stream
from etl_project.sources.reading.chunk import Load
from etl_project.sources.reading.file_format import FileFormat, SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.json_values import DECODER, Records
from etl_project.sources.reading.jsonl import refuse_missing

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec

_BLANKS = " \t\r\n"
_RECORDS_A_CHUNK = 10_000


def chunks(file: SourceFile, spec: SourceSpec) -> Iterator[Load]:
    """The records of the file. Raises FileRefused for text that is no JSON, and as JSON Lines for missing columns."""
    records = Records(spec)
    stretch = records.start()
    for count, (line, raw, value) in enumerate(_values(_Text(file, spec)), 1):
        stretch.add(line, raw, value)
        if count % _RECORDS_A_CHUNK == 0:
            chunk = stretch.chunk()
            yield lambda chunk=chunk: chunk  # type: ignore[misc]
            stretch = records.start()
    yield stretch.chunk
    refuse_missing(records, file, spec)


class _Text:
    """The text of a file from a position on, as much of it as is needed."""

    def __init__(self, file: SourceFile, spec: SourceSpec) -> None:
        self._pieces = stream.texts(file, spec)
        self._most = spec.max_line_bytes
        self._text = ""
        self._at = 0
        self._line = 1
        self._counted = 0

    def next(self) -> str:
        """The next character that is no blank, without taking it; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANKS:
                self._at += 1
            if self._at < len(self._text) or not self._read_on():
                return self._text[self._at : self._at + 1]

    def take(self) -> None:
        """Take one character."""
        self._at += 1

    def value(self) -> tuple[int, str, Any]:
        """Take a whole value: the line on which it starts, its text, and what it is."""
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._read_on():
                    continue
                raise self.broken(error.msg, error.pos) from None
            except RecursionError:
                raise self.broken("nested too deeply", self._at) from None
            if end == len(self._text) and self._read_on():
                continue  # A number may go on.
            raw = self._text[self._at : end]
            line = self._line_here()
            self._at = end
            return line, raw, value

    def broken(self, why: str, at: int | None = None) -> FileRefused:
        """The refusal of the file for what is at this position."""
        where = self._line_here() + (self._text.count("\n", self._at, at) if at is not None else 0)
        return FileRefused(
            "unreadable JSON", f"{why} in line {where}", "JSON objects, one after the other or in one array"
        )

    def _read_on(self) -> bool:
        """Have more of the text, and forget what was taken of it; False at the end."""
        if len(self._text) - self._at > self._most:
            expected = f"at most {self._most} bytes an object (max_line_bytes)"
            raise FileRefused("object too long", f"more than that from line {self._line} on", expected)
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._line_here()
        self._text = self._text[self._at :] + piece
        self._at = self._counted = 0
        return True

    def _line_here(self) -> int:
        """The line of what comes next. Counted on from where it was asked for last, so that a file is counted once."""
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line


def _values(text: _Text) -> Iterator[tuple[int, str, Any]]:
    """Every value of the document; the values of an array are taken for the document's own."""
    if text.next() == "[":
        text.take()
        yield from _elements(text)
        if text.next():
            raise text.broken("text after the array")
        return
    while text.next():
        yield text.value()


def _elements(text: _Text) -> Iterator[tuple[int, str, Any]]:
    if text.next() == "]":
        text.take()
        return
    while True:
        if not text.next():
            raise text.broken("the array is not closed")
        yield text.value()
        found = text.next()
        if found not in (",", "]"):
            raise text.broken("no comma between two objects" if found else "the array is not closed")
        text.take()
        if found == "]":
            return


JSON = FileFormat(chunks, empty_is_null=False)
