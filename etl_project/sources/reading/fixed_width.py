"""Fixed width: lines whose fields stand at places of their own, into chunks of records.

Belongs here: cutting lines by character positions. Does not belong here: what a field means (`convert`).

Blanks around a field are padding and no part of it; a field of nothing but blanks is NULL. There is no header (lines
before the records are skipped with `skip_lines`); an empty line is no record. A line has to reach the end of its last
field that may not be absent, and holds nothing but blanks after the last field.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources.reading import header, stream
from etl_project.sources.reading.chunk import Broken, Chunk, Load
from etl_project.sources.reading.csv.grammar import bare, lines_of
from etl_project.sources.reading.file_format import FileFormat, SourceFile
from etl_project.sources.reading.file_refused import FileRefused

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec


def span_of(place: str) -> tuple[int, int] | None:
    """The first character and the one after the last, from 0, of a field at `7-26`; None where that says no place."""
    first, _, last = place.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal() or not 1 <= int(first) <= int(last or first):
        return None
    return int(first) - 1, int(last or first)


def chunks(file: SourceFile, spec: SourceSpec) -> Iterator[Load]:
    """The records of the file. Raises FileRefused where `positions` lacks a column that a file may not lack."""
    places = dict(spec.layout.positions)
    spans = [span for span in map(span_of, places.values()) if span is not None]
    match = header.match(list(places), spec, file)
    shortest = max(
        (span[1] for name, span in zip(places, spans, strict=True) if not _may_be_cut(name, spec, file)), default=1
    )
    line, left = 1, spec.layout.skip_lines
    for block in stream.text_blocks(file, spec):
        lines = lines_of(block.decode("utf-8"))
        skipped = min(left, len(lines))
        left -= skipped
        chunk = _chunk(lines[skipped:], line + skipped, spans, shortest, match, spec)
        line += len(lines)
        yield lambda chunk=chunk: chunk  # type: ignore[misc]
    if left:
        raise FileRefused("too few lines", f"{line - 1} lines", f"at least {spec.layout.skip_lines} (skip_lines)")


def _may_be_cut(name: str, spec: SourceSpec, file: SourceFile) -> bool:
    column = spec.columns.get(name)
    return column is None or spec.layout.may_lack(column, file.day)


def _chunk(
    lines: list[str], first: int, spans: list[tuple[int, int]], shortest: int, match: header.Match, spec: SourceSpec
) -> Chunk:
    longest = max(end for _, end in spans)
    good: list[str] = []
    starts: list[int] = []
    broken: list[Broken] = []
    for line, ended in enumerate(lines, first):
        text = bare(ended)
        if not text or (spec.layout.comment and text.startswith(spec.layout.comment)):
            continue
        if len(text) < shortest or text[longest:].strip(" "):
            expected = f"{longest}" if shortest == longest else f"{shortest} to {longest}"
            broken.append(Broken(line, f"{len(text)} characters instead of {expected}", text))
        else:
            good.append(text)
            starts.append(line)
    texts = pa.array(good, pa.string())
    fields = [_field(texts, start, end) for start, end in spans]
    return Chunk(match.texts(fields, len(good)), pa.array(starts, pa.int64()), lambda at: [good[n] for n in at], broken)


def _field(lines: pa.Array, start: int, end: int) -> pa.Array:
    texts = pc.utf8_trim(pc.utf8_slice_codeunits(lines, start, end), " ")
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


FIXED = FileFormat(chunks, settings=frozenset({"skip_lines", "comment", "line_ends", "positions"}))
