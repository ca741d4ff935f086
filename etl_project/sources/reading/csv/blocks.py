"""CSV blocks: a whole block of lines into columns at once, where that provably gives what the grammar gives.

Belongs here: the vectorised reading of well-formed blocks. Does not belong here: any block about which there is
doubt; that is read by `csv_grammar`, record by record.

The proof looks at nothing but the quotes. Take them in order: every first of two must stand at the start of a field
and every second at the end of one, or two neighbours must touch (an escaped quote). Then the grammar opens and closes
its quoted fields at exactly these places: a line end with an even number of quotes before it ends a record, and
Arrow's reader, which knows the same grammar, cannot read the block in another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from etl_project.sources.reading.chunk import Broken, Chunk
from etl_project.sources.reading.header import Match

_QUOTE, _LF, _CR = ord('"'), ord("\n"), ord("\r")
_Bytes = npt.NDArray[np.uint8]
_Offsets = npt.NDArray[np.int64]


class _Records(NamedTuple):
    """Records by the offsets of their first byte and their LF, and by the line (from 0) on which they start."""

    starts: _Offsets
    ends: _Offsets
    lines: _Offsets

    def only(self, which: npt.NDArray[np.bool_]) -> _Records:
        return _Records(self.starts[which], self.ends[which], self.lines[which])


class Cut(NamedTuple):
    """A block of whole, well-formed records, found but not read yet. `line_count` is the number of its lines;
    `spanning` says that some record spans several of them."""

    block: bytes
    separator: str
    quotes: _Offsets
    records: _Records
    line_count: int
    spanning: bool
    quoting: bool = True

    def load(self, match: Match, width: int, first_line: int) -> Chunk:
        """Read the fields, `width` a record; the block starts with line `first_line`. Runs in any thread."""
        broken: list[Broken] = []
        records = self.records
        try:
            columns = _columns(self, self.block, width)
        except pa.ArrowInvalid:
            counts = _field_counts(self)
            for start, end, line, count in zip(*records.only(counts != width), counts[counts != width], strict=True):
                broken.append(Broken(int(line) + first_line, wrong_width(int(count), width), self._raw(start, end)))
            records = records.only(counts == width)
            good = (self.block[start : end + 1] for start, end in zip(records.starts, records.ends, strict=True))
            columns = _columns(self, b"".join(good), width)
        if any(len(column) != len(records.starts) for column in columns):
            # Never seen; going on would put values into other rows.
            raise RuntimeError(f"Arrow and the quotes disagree about the records from line {first_line} on.")

        def raw(which: Sequence[int]) -> list[str]:
            return [self._raw(records.starts[one], records.ends[one]) for one in which]

        texts = match.texts(columns, len(records.starts))
        return Chunk(texts, pa.array(records.lines + first_line), raw, broken)

    def _raw(self, start: int, end: int) -> str:
        return self.block[start:end].decode("utf-8").removesuffix("\r")


def cut(text: bytes, separator: str, max_bytes: int, quoting: bool = True) -> Cut | None:
    """The whole records at the start of `text`, or None when there is any doubt about their well-formedness.

    `text` starts a record and ends with a line end; a record that may go on after it is left over. Without `quoting`,
    a quote is an ordinary character.
    """
    if b"\r" in text and text.count(b"\r") != text.count(b"\r\n"):
        return None
    data = np.frombuffer(text, np.uint8)
    line_ends = np.flatnonzero(data == _LF)
    quotes = np.flatnonzero(data == _QUOTE) if quoting and b'"' in text else np.empty(0, np.int64)
    ending = line_ends if not len(quotes) else line_ends[np.searchsorted(quotes, line_ends) % 2 == 0]
    if not len(ending):
        return None
    size = int(ending[-1]) + 1
    quotes = quotes[: np.searchsorted(quotes, size)]
    records = _records(ending, line_ends)
    if not _well_formed(data, quotes, ord(separator)) or int((records.ends - records.starts).max()) >= max_bytes:
        return None
    empty = (data[records.starts] == _LF) | ((data[records.starts] == _CR) & (records.ends - records.starts == 1))
    if empty.any():
        records = records.only(~empty)
    line_count = int(np.searchsorted(line_ends, size))
    block = text if size == len(text) else text[:size]
    return Cut(block, separator, quotes, records, line_count, spanning=len(ending) < line_count, quoting=quoting)


def wrong_width(found: int, expected: int) -> str:
    """The reason of a record with another number of fields than the header."""
    return f"{found} field{'s' if found != 1 else ''} instead of {expected}"


def _records(ending: _Offsets, line_ends: _Offsets) -> _Records:
    starts = np.concatenate(([0], ending[:-1] + 1))
    if len(ending) == len(line_ends):
        return _Records(starts, ending, np.arange(len(ending)))
    return _Records(starts, ending, np.concatenate(([0], np.searchsorted(line_ends, ending[:-1]) + 1)))


def _well_formed(data: _Bytes, quotes: _Offsets, separator: int) -> bool:
    """Whether every quote opens a field, closes one, or is escaped by its neighbour (see the module)."""
    opening, closing = quotes[::2], quotes[1::2]
    before = data[opening - 1]
    starts_field = (opening == 0) | (before == separator) | (before == _LF)
    starts_field[1:] |= opening[1:] - 1 == closing[:-1]
    after = data[closing + 1]
    ends_field = (after == separator) | (after == _LF) | (after == _CR)
    ends_field[:-1] |= closing[:-1] + 1 == opening[1:]
    return bool(starts_field.all() and ends_field.all())


def _field_counts(found: Cut) -> _Offsets:
    separators = np.flatnonzero(np.frombuffer(found.block, np.uint8) == ord(found.separator))
    separators = separators[np.searchsorted(found.quotes, separators) % 2 == 0]
    counts: _Offsets = np.searchsorted(separators, found.records.ends) - np.searchsorted(
        separators, found.records.starts
    )
    return counts + 1


def _columns(found: Cut, block: bytes, width: int) -> list[pa.Array]:
    """The fields as text, empty ones NULL. Raises ArrowInvalid when a record has another number of fields."""
    names = [str(number) for number in range(width)]
    if not block.strip(b"\r\n"):
        return [pa.array([], pa.string()) for _ in names]
    table = csv.read_csv(
        pa.BufferReader(block),
        read_options=csv.ReadOptions(column_names=names, block_size=len(block) + 1, use_threads=False),
        parse_options=csv.ParseOptions(
            delimiter=found.separator,
            quote_char='"' if found.quoting else False,
            double_quote=found.quoting,
            escape_char=False,
            newlines_in_values=found.spanning,
        ),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
            check_utf8=False,
        ),
    )
    return [column.combine_chunks() for column in table.columns]
