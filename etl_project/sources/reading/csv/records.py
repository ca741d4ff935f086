"""CSV and TSV: blocks of lines into chunks of records.

Belongs here: the header, the count of physical lines, and the choice between the two readers that agree on every
block: `csv_blocks` (fast, well-formed blocks only) and `csv_grammar` (any text). Does not belong here: what a field
means (`convert`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from etl_project.sources.reading import header, stream
from etl_project.sources.reading.chunk import Broken, Chunk, Load
from etl_project.sources.reading.csv import blocks
from etl_project.sources.reading.csv.grammar import BrokenRecord, Grammar, OpenRecord, bare, lines_of
from etl_project.sources.reading.file_format import FileFormat, SourceFile
from etl_project.sources.reading.file_refused import FileRefused

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec


def chunks(file: SourceFile, spec: SourceSpec) -> Iterator[Load]:
    """The records of the file, header left out; an empty field is NULL.

    Raises FileRefused for a header that does not have exactly the source's columns.
    """
    reader: CsvReader | None = None
    rest = b""
    for block in stream.text_blocks(file, spec):
        if reader is None:
            first, _, text = block.partition(b"\n")
            names = _names(first.decode("utf-8"), spec)
            reader = CsvReader(spec, header.match(names, spec, file), len(names))
        else:
            text = rest + block
        chunk, rest = reader.read(text, final=False)
        yield chunk
    if reader is not None and rest:
        yield reader.read(rest, final=True)[0]


def _names(first_line: str, spec: SourceSpec) -> list[str]:
    try:
        return Grammar(spec.separator, spec.max_line_bytes).record([first_line + "\n"], 0)[0]
    except BrokenRecord as error:
        raise FileRefused("unreadable header", f"{first_line[:200]!r} ({error})", ", ".join(spec.columns)) from None


class CsvReader:
    """Turns bytes that start a record into chunks, and counts the lines. The header was line 1.

    `match` says where the source's columns are among the `width` fields of a record. `fast=False` reads everything by
    the grammar; what it gives is the same.
    """

    def __init__(self, spec: SourceSpec, match: header.Match, width: int, fast: bool = True) -> None:
        self._separator = spec.separator
        self._max_bytes = spec.max_line_bytes
        self._grammar = Grammar(spec.separator, spec.max_line_bytes)
        self._match = match
        self._width = width
        self._fast = fast
        self._line = 2

    def read(self, text: bytes, final: bool) -> tuple[Load, bytes]:
        """The records of the text, and the bytes of a last record that may go on (none when `final`)."""
        if final and not text.endswith(b"\n"):
            text += b"\n"
        found = blocks.cut(text, self._separator, self._max_bytes) if self._fast and text else None
        if found is None or (final and len(found.block) < len(text)):
            chunk, rest = self._one_by_one(lines_of(text.decode("utf-8")), final)
            return lambda: chunk, rest
        first_line = self._line
        self._line += found.line_count
        return lambda: found.load(self._match, self._width, first_line), text[len(found.block) :]

    def _one_by_one(self, lines: list[str], final: bool) -> tuple[Chunk, bytes]:
        records: list[list[str]] = []
        starts: list[int] = []
        raws: list[str] = []
        broken: list[Broken] = []
        width = self._width
        at = 0
        while at < len(lines):
            try:
                fields, after = self._grammar.record(lines, at)
            except BrokenRecord as error:
                if isinstance(error, OpenRecord) and not final:
                    break
                broken.append(Broken(self._line + at, str(error), bare(lines[at])))
                at += 1
                continue
            if fields and len(fields) != width:
                reason = blocks.wrong_width(len(fields), width)
                broken.append(Broken(self._line + at, reason, bare("".join(lines[at:after]))))
            elif fields:
                records.append(fields)
                starts.append(self._line + at)
                raws.append(bare("".join(lines[at:after])))
            at = after
        self._line += at
        columns = [pa.array([fields[one] or None for fields in records], pa.string()) for one in range(width)]
        chunk = Chunk(
            self._match.texts(columns, len(records)),
            pa.array(starts, pa.int64()),
            lambda which: [raws[one] for one in which],
            broken,
        )
        return chunk, "".join(lines[at:]).encode("utf-8")


CSV = FileFormat(chunks)
TSV = FileFormat(chunks, separator="\t")
