"""Skipping: records of a file that are no rows, by what they say or by their place at the end.

Belongs here: totals, trailers and comments among the records. Every record that is left out is counted. Does not belong
here: lines before the header (the formats), what the left-out records promise (`control_totals`).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources.reading.chunk import Chunk
from etl_project.sources.reading.rows.row_sql import RowSql
from etl_project.sources.spec import SourceSpec

LINE, TEXT = "source_line", "raw_text"


class Parted(NamedTuple):
    """A chunk without the records that are no rows, and these (see `schema`)."""

    chunk: Chunk
    skipped: pa.Table


def schema(spec: SourceSpec) -> pa.Schema:
    """What is kept of a skipped record: its line, and where totals are expected its texts."""
    texts = [(TEXT, pa.string()), *((target.name, pa.string()) for target in spec.targets)]
    return pa.schema([(LINE, pa.int64()), *(texts if spec.rows.expect else ())])


def may_skip(spec: SourceSpec) -> bool:
    """Whether some records of a file may be no rows by the settings of the source."""
    return bool(spec.rows.skip_rows_where or spec.rows.footer_lines)


class Skipping:
    """Leaves out the records for which `skip_rows_where` is true. Costs nothing without it."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._where = spec.rows.skip_rows_where
        self._sql = RowSql() if self._where else None
        self._needs_text = bool(self._where and re.search(rf"\b{TEXT}\b", self._where, re.IGNORECASE))

    def part(self, chunk: Chunk) -> Parted:
        """The chunk in its two parts."""
        if self._sql is None:
            return Parted(chunk, schema(self._spec).empty_table())
        skip = self._true(_table(self._spec, chunk, range(len(chunk.lines)), self._needs_text))
        # A record that breaks the grammar has no columns, and nothing but its text to be known by.
        broken = [False] * len(chunk.broken)
        if self._needs_text and chunk.broken:
            broken = self._true(_broken(self._spec, chunk)).to_pylist()
        return split(self._spec, chunk, skip, broken)

    def _true(self, records: pa.Table) -> pa.Array:
        """Where the expression is true; it is not where it is NULL or fails."""
        assert self._sql is not None and self._where is not None
        [(_, values)] = self._sql.values(records, [f"CAST(({self._where}) AS BOOLEAN)"])
        return pc.fill_null(values, False)


def split(spec: SourceSpec, chunk: Chunk, skip: pa.Array, broken: list[bool]) -> Parted:
    """The chunk without the records for which `skip` (of its rows) and `broken` (of its broken ones) say so."""
    if not pc.any(skip).as_py() and not any(broken):
        return Parted(chunk, schema(spec).empty_table())
    which = pc.indices_nonzero(skip).to_pylist()
    kept = pc.indices_nonzero(pc.invert(skip)).to_pylist()
    gone = chunk._replace(broken=[one for one, out in zip(chunk.broken, broken, strict=True) if out])
    tables = [_table(spec, chunk, which, True), _broken(spec, gone)]
    left = Chunk(
        [text.take(pa.array(kept, pa.int64())) for text in chunk.texts],
        chunk.lines.take(pa.array(kept, pa.int64())),
        lambda places: chunk.raw([kept[place] for place in places]),
        [one for one, out in zip(chunk.broken, broken, strict=True) if not out],
    )
    skipped = pa.concat_tables(tables).select(schema(spec).names).cast(schema(spec))
    return Parted(left, skipped.sort_by(LINE))


def without_footer(parts: Iterator[Parted], spec: SourceSpec) -> Iterator[Parted]:
    """The chunks of a file without its last `footer_lines` records; holds back what may still be one of them."""
    held: deque[Parted] = deque()
    wanted = spec.rows.footer_lines
    for part in parts:
        held.append(part)
        while sum(_size(later.chunk) for later in list(held)[1:]) >= wanted:
            yield held.popleft()
    cut: list[Parted] = []
    for part in reversed(held):
        lines = sorted([*part.chunk.lines.to_pylist(), *(one.line for one in part.chunk.broken)])
        footer = set(lines[max(0, len(lines) - wanted) :])
        wanted -= len(footer)
        skip = pa.array([line in footer for line in part.chunk.lines.to_pylist()], pa.bool_())
        found = split(spec, part.chunk, skip, [one.line in footer for one in part.chunk.broken])
        cut.append(Parted(found.chunk, pa.concat_tables([part.skipped, found.skipped])))
    yield from reversed(cut)


def _size(chunk: Chunk) -> int:
    return len(chunk.lines) + len(chunk.broken)


def _table(spec: SourceSpec, chunk: Chunk, which: range | list[int], with_text: bool) -> pa.Table:
    """Some records as text: their line, their raw text and their columns."""
    places = pa.array(which, pa.int64())
    texts, lines = [text.take(places) for text in chunk.texts], chunk.lines.take(places)
    raw = pa.array(chunk.raw(list(which)), pa.string()) if with_text else pa.nulls(len(lines), pa.string())
    return pa.table([lines, raw, *texts], names=[LINE, TEXT, *(target.name for target in spec.targets)])


def _broken(spec: SourceSpec, chunk: Chunk) -> pa.Table:
    count = len(chunk.broken)
    lines = pa.array([one.line for one in chunk.broken], pa.int64())
    raw = pa.array([one.raw for one in chunk.broken], pa.string())
    nulls = [pa.nulls(count, pa.string()) for _ in spec.targets]
    return pa.table([lines, raw, *nulls], names=[LINE, TEXT, *(target.name for target in spec.targets)])
