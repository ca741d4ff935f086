"""CSV and TSV: blocks of lines into chunks of records.

Belongs here: the grammar of delimited text, physical line numbers, the check of the header. Does not belong here:
what a field means (`convert`).

The grammar is RFC 4180 with any delimiter: a field that starts with a quote ends at its closing quote, two quotes in
it are one, it may hold line ends; a quote inside any other field is an ordinary character. Lines end with LF or CRLF;
an empty line is no record; a carriage return anywhere else is an error. An empty field is no value. A record that
breaks the grammar costs its first line alone: reading goes on with the line after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pyarrow as pa

from etl_project.incoming.chunk import Broken, Chunk
from etl_project.incoming.refused import Refused
from etl_project.incoming.spec import SourceSpec


class _BrokenRecord(Exception):
    """The record that starts on this line breaks the grammar; the message says how."""


class _OpenRecord(Exception):
    """The text ends inside a quoted field: the record may go on in the next block."""


def chunks(blocks: Iterator[bytes], spec: SourceSpec) -> Iterator[Chunk]:
    """The records of the file, header left out. Raises Refused for a header that is not exactly the contract's."""
    reader: _Reader | None = None
    rest = ""
    for block in blocks:
        text = rest + block.decode("utf-8")
        if reader is None:
            header, _, text = text.partition("\n")
            reader = _Reader(spec, _positions(header, spec))
        chunk, rest = reader.read(text, final=False)
        yield chunk
    if reader is not None and rest:
        yield reader.read(rest, final=True)[0]


def _positions(header: str, spec: SourceSpec) -> list[int]:
    """Where each contract column is in a line. All differences from the expected header are named at once."""
    try:
        names, _ = _Grammar(spec).record([header], 0)
    except (_BrokenRecord, _OpenRecord) as error:
        raise Refused("unreadable header", f"{header[:200]!r} ({error})", ", ".join(spec.columns)) from None
    missing = [name for name in spec.columns if name not in names]
    extra = [name for name in dict.fromkeys(names) if name not in spec.columns]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    differences = [
        f"{what} {', '.join(map(repr, which))}"
        for what, which in (("missing", missing), ("not expected", extra), ("repeated", repeated))
        if which
    ]
    if differences:
        raise Refused("wrong columns", "; ".join(differences), ", ".join(spec.columns))
    return [names.index(name) for name in spec.columns]


class _Reader:
    """Turns texts of whole lines into chunks, and counts the lines."""

    def __init__(self, spec: SourceSpec, positions: Sequence[int]) -> None:
        self._grammar = _Grammar(spec)
        self._positions = positions
        self._line = 2

    def read(self, text: str, final: bool) -> tuple[Chunk, str]:
        """The records of the text, and the text of a last record that may go on (never when `final`)."""
        lines = text.splitlines(keepends=True) if "\r" not in text and text.isascii() else _lines(text)
        records: list[list[str]] = []
        starts: list[int] = []
        raws: list[str] = []
        broken: list[Broken] = []
        at = 0
        while at < len(lines):
            try:
                fields, after = self._grammar.record(lines, at)
            except _OpenRecord as error:
                if not final and sum(map(len, lines[at:])) <= self._grammar.max_record:
                    break
                broken.append(Broken(self._line + at, str(error), _bare(lines[at])))
                after = at + 1
            except _BrokenRecord as error:
                broken.append(Broken(self._line + at, str(error), _bare(lines[at])))
                after = at + 1
            else:
                if fields:
                    records.append(fields)
                    starts.append(self._line + at)
                    raws.append(_bare("".join(lines[at:after])))
            at = after
        self._line += at
        texts = [
            pa.array([fields[position] or None for fields in records], pa.string()) for position in self._positions
        ]
        chunk = Chunk(texts, pa.array(starts, pa.int64()), lambda which: [raws[one] for one in which], broken)
        return chunk, "".join(lines[at:])


class _Grammar:
    """One record at a time, exactly as the module says."""

    def __init__(self, spec: SourceSpec) -> None:
        self._separator = spec.separator
        self._unquoted = re.compile(f"[^{re.escape(spec.separator)}\r\n]*")
        self._end = re.compile("(?:\r?\n)?\\Z")
        self._width = len(spec.columns)
        self._names_only = True
        self.max_record = spec.max_line_bytes

    def record(self, lines: Sequence[str], at: int) -> tuple[list[str], int]:
        """The fields of the record that starts with line `at` (none for an empty line), and the line after it."""
        fields, after = self._fields(lines, at)
        if fields == [""]:
            return [], after
        return fields, after

    def _fields(self, lines: Sequence[str], at: int) -> tuple[list[str], int]:
        text = lines[at]
        after = at + 1
        fields: list[str] = []
        position = 0
        while True:
            if text.startswith('"', position):
                text, after, end = self._close(text, position + 1, lines, after)
                fields.append(text[position + 1 : end].replace('""', '"'))
                position = end + 1
            else:
                end = self._unquoted.match(text, position).end()  # type: ignore[union-attr]
                fields.append(text[position:end])
                position = end
            if text.startswith(self._separator, position):
                position += 1
            elif self._end.match(text, position):
                return fields, after
            elif text.startswith("\r", position):
                raise _BrokenRecord("a carriage return that does not end the line")
            else:
                raise _BrokenRecord(f"text after the closing quote of field {len(fields)}")

    def _close(self, text: str, start: int, lines: Sequence[str], after: int) -> tuple[str, int, int]:
        """The position of the closing quote, having taken in as many further lines as the field spans."""
        search = start
        while True:
            end = text.find('"', search)
            if end < 0:
                if after == len(lines):
                    raise _OpenRecord("a quote that is never closed")
                if len(text) > self.max_record:
                    raise _BrokenRecord(f"a quoted field longer than {self.max_record} bytes (max_line_bytes)")
                search = len(text)
                text += lines[after]
                after += 1
            elif text.startswith('"', end + 1):
                search = end + 2
            else:
                return text, after, end


def _lines(text: str) -> list[str]:
    """The lines with their ends, cut at LF alone (str.splitlines knows a dozen other line ends)."""
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _bare(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")
