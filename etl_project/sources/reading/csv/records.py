"""CSV and TSV: blocks of lines into chunks of records.

Belongs here: the count of physical lines, and the choice between the readers that agree on every block: `blocks` (fast,
well-formed blocks only) and a grammar (any text). Does not belong here: what comes before the records (`start`), what a
field means (`convert`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from etl_project.sources.reading import header, stream
from etl_project.sources.reading.chunk import Broken, Chunk, Load
from etl_project.sources.reading.csv import blocks, start
from etl_project.sources.reading.csv.dialect import Dialect
from etl_project.sources.reading.csv.grammar import BrokenRecord, OpenRecord, bare, lines_of
from etl_project.sources.reading.file_format import FileFormat, SourceFile

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec

T = TypeVar("T")


def chunks(file: SourceFile, spec: SourceSpec) -> Iterator[Load]:
    """The records of the file, header left out; an empty field is NULL.

    Raises FileRefused for a header that does not have exactly the source's columns.
    """
    yield from _stretches(file, spec, CsvReader.read)


def count(file: SourceFile, spec: SourceSpec) -> int:
    """The number of records of the file, broken ones included. Raises as `chunks`."""
    return sum(_stretches(file, spec, CsvReader.count))


def _stretches(
    file: SourceFile, spec: SourceSpec, work: Callable[[CsvReader, bytes, bool], tuple[T, bytes]]
) -> Iterator[T]:
    """What the work makes of each stretch of the file, with what the one before has left over."""
    text_blocks = stream.text_blocks(file, spec)
    head = start.Head(text_blocks)
    found = start.read(head, spec, file)
    if found is None:
        return
    reader = CsvReader(spec, found)
    done, rest = work(reader, head.rest, False)
    yield done
    for block in text_blocks:
        done, rest = work(reader, rest + block, False)
        yield done
    if rest:
        yield work(reader, rest, True)[0]


class CsvReader:
    """Turns bytes that start a record into chunks, and counts the lines.

    `found` says how the records are to be read. `fast=False` reads everything by the grammar, and gives the same.
    """

    def __init__(self, spec: SourceSpec, found: start.Start, fast: bool = True) -> None:
        self._dialect: Dialect = found.dialect
        self._max_bytes = spec.max_line_bytes
        self._grammar = found.dialect.grammar(spec.max_line_bytes)
        self._match: header.Match = found.match
        self._width = found.width
        self._line = found.line
        self._comment = spec.layout.comment
        self._comment_bytes = self._comment.encode("utf-8")
        self._trailing = spec.layout.trailing_delimiter
        self._fast = fast and not self._trailing and (found.dialect.is_plain or found.dialect.is_without_quotes)

    def read(self, text: bytes, final: bool) -> tuple[Load, bytes]:
        """The records of the text, and the bytes of a last record that may go on (none when `final`)."""
        if final and not text.endswith(b"\n"):
            text += b"\n"
        found = self._cut(text)
        if found is None or (final and len(found.block) < len(text)):
            chunk, rest = self._one_by_one(lines_of(text.decode("utf-8")), final)
            return lambda: chunk, rest
        first_line = self._line
        self._line += found.line_count
        return lambda: found.load(self._match, self._width, first_line), text[len(found.block) :]

    def count(self, text: bytes, final: bool) -> tuple[int, bytes]:
        """As `read`, with nothing but the number of the records."""
        if final and not text.endswith(b"\n"):
            text += b"\n"
        found = self._cut(text)
        if found is None or (final and len(found.block) < len(text)):
            chunk, rest = self._one_by_one(lines_of(text.decode("utf-8")), final)
            return len(chunk.lines) + len(chunk.broken), rest
        return len(found.records.starts), text[len(found.block) :]

    def _cut(self, text: bytes) -> blocks.Cut | None:
        """The text as whole records, where the fast reader may read it."""
        if not self._fast or not text:
            return None
        if self._comment and (text.startswith(self._comment_bytes) or b"\n" + self._comment_bytes in text):
            return None
        return blocks.cut(text, self._dialect.separator, self._max_bytes, quoting=bool(self._dialect.quote))

    def _one_by_one(self, lines: list[str], final: bool) -> tuple[Chunk, bytes]:
        records: list[list[str]] = []
        starts: list[int] = []
        raws: list[str] = []
        broken: list[Broken] = []
        width = self._width
        at = 0
        while at < len(lines):
            if self._comment and lines[at].startswith(self._comment):
                at += 1
                continue
            try:
                fields, after = self._grammar.record(lines, at)
            except BrokenRecord as error:
                if isinstance(error, OpenRecord) and not final:
                    break
                broken.append(Broken(self._line + at, str(error), bare(lines[at])))
                at += 1
                continue
            if self._trailing and len(fields) == width + 1 and not fields[-1]:
                fields.pop()
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
        texts = self._match.texts(columns, len(records))
        chunk = Chunk(texts, pa.array(starts, pa.int64()), lambda which: [raws[one] for one in which], broken)
        return chunk, "".join(lines[at:]).encode("utf-8")


_SETTINGS = frozenset(
    {
        "skip_lines",
        "header",
        "field_names",
        "comment",
        "quote",
        "escape",
        "trailing_delimiter",
        "other_delimiters",
        "line_ends",
    }
)

CSV = FileFormat(chunks, count=count, settings=_SETTINGS)
TSV = FileFormat(chunks, count=count, separator="\t", settings=_SETTINGS)
