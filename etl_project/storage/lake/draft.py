"""Draft: a Parquet file in the making, which takes rows as they come and its commit record last.

Belongs here: how a file is laid out (row groups, encodings, compression, footer keys). Does not belong here: where it
lies and when it becomes the partition's file (`layout`, `write`).

Rows are cut into groups by their number, wide ones by their size (`value_sizes`), whatever batches they arrive in: so
the same rows in the same order always make the same file, and memory holds two groups: one being made and one being
written.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl_project import atomic, faults
from etl_project.storage.contract import Commit
from etl_project.storage.judging.commits import to_json
from etl_project.storage.lake import value_sizes

GROUP_ROWS = 122_880
"""Rows of a row group: what DuckDB reads with one thread."""

GROUP_BYTES = 64 * 1024**2
"""What the values of a row group come to at the most; a wider row is a group of its own."""

KEPT_RECORDS = 20
"""Earlier commit records that a file carries along."""

FRAME = b"etl_frame"
"""What `recorded` says about the types that the rows had as a frame."""

RECORD = b"etl_commit"
EARLIER = b"etl_earlier_commits"


Fill = Callable[[Path, Commit, Sequence[Commit]], None]
"""Makes a whole file at a path, with its commit record and those before it."""


class Draft:
    """A Parquet file being written. Leaving the block without `finish` leaves a file without a record.

    One row group is written by a thread of its own while the next one is made.
    """

    def __init__(self, path: Path, schema: pa.Schema, frame: bytes | None = None) -> None:
        self.path = path
        self._frame = frame
        self.schema = schema
        self._writer: pq.ParquetWriter | None = None
        self._thread = ThreadPoolExecutor(1)
        self._under_way: Future[None] | None = None
        self._is_ended = False

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown()
        if self._writer is not None:
            self._writer.close()

    def add(self, rows: pa.Table) -> None:
        """Write the rows as one row group. Raises what the writing of those before it has raised."""
        self._settle()
        self._under_way = self._thread.submit(self._write, rows)

    def _write(self, rows: pa.Table) -> None:
        self._open(rows).write_table(rows, row_group_size=GROUP_ROWS)
        faults.reach("parquet.half_written")

    def _settle(self) -> None:
        if self._under_way is not None:
            self._under_way.result()

    def finish(self, record: Commit, earlier: Sequence[Commit]) -> None:
        """Put the commit record into the footer, with some of those before it, and end the file."""
        kept = [to_json(commit) for commit in earlier[-KEPT_RECORDS:]]
        self._settle()
        footer = {RECORD: to_json(record).encode(), EARLIER: json.dumps(kept).encode()}
        footer |= {} if self._frame is None else {FRAME: b64encode(self._frame)}
        self._open(self.schema.empty_table()).add_key_value_metadata(footer)
        self.close()

    def finish_as(self, path: Path, record: Commit, earlier: Sequence[Commit]) -> None:
        """`finish`, and give the file another place in the same folder. One that was ended is written once more:
        after rows that were looked at again, or a place that somebody else had taken first.
        """
        if self._is_ended:
            write(path, self._once_more(), record, earlier, self._frame)
            return
        self.finish(record, earlier)
        self.path = self.path.rename(path)

    def close(self) -> None:
        """End the file: what was added can be read."""
        self._settle()
        self._open(self.schema.empty_table()).close()
        self._is_ended = True

    def _once_more(self) -> pa.RecordBatchReader:
        """What an ended draft holds, in the memory of a row group."""

        def batches() -> Iterator[pa.RecordBatch]:
            with pq.ParquetFile(self.path) as file:
                for group in range(file.num_row_groups):
                    yield from file.read_row_group(group).cast(self.schema).to_batches()

        return pa.RecordBatchReader.from_batches(self.schema, batches())

    def _open(self, first: pa.Table) -> pq.ParquetWriter:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, self.schema, compression="zstd", **_encodings(first))
        return self._writer


def write(
    path: Path,
    batches: pa.RecordBatchReader,
    record: Commit,
    earlier: Sequence[Commit],
    frame: bytes | None = None,
) -> None:
    """Write a whole file with its commit record."""
    with Draft(path, batches.schema, frame) as new:
        for rows in groups(batches):
            new.add(rows)
        new.finish(record, earlier)


@contextmanager
def discarded(target: Path, schema: pa.Schema, frame: bytes | None = None) -> Iterator[Draft]:
    """A draft beside the target that is gone at the end of the block, unless it was given another place."""
    temporary = atomic.temporary_sibling(target)
    try:
        with Draft(temporary, schema, frame) as draft:
            yield draft
    finally:
        temporary.unlink(missing_ok=True)


def groups(
    batches: Iterable[pa.RecordBatch], size: int = GROUP_ROWS, size_bytes: int = GROUP_BYTES
) -> Iterator[pa.Table]:
    """The rows in tables of `size` rows, fewer where those come to more than `size_bytes`; nothing for no rows."""
    held: list[pa.RecordBatch] = []
    rows, bits = 0, 0
    for batch in batches:
        rest = batch
        while rest.num_rows:
            taken = value_sizes.that_fit(rest.slice(0, size - rows), 8 * size_bytes - bits)
            if not taken and not held:
                taken = 1
            if taken:
                held.append(rest.slice(0, taken))
                rest = rest.slice(taken)
                rows, bits = rows + taken, bits + value_sizes.bits_of(held[-1])
            if rest.num_rows or rows == size:
                yield pa.Table.from_batches(held)
                held, rows, bits = [], 0, 0
    if held:
        yield pa.Table.from_batches(held)


def _encodings(first: pa.Table) -> dict[str, Any]:
    """Dictionaries only for columns whose values repeat: for the others they cost time (a third) and space.

    Nested columns are named by their leaves in Parquet; tables that have some are left to the library's defaults.
    """
    if not first.num_rows or any(pa.types.is_nested(field.type) for field in first.schema):
        return {}
    repeating = {name for name in first.schema.names if _repeats(first[name])}
    counting = [f.name for f in first.schema if f.name not in repeating and f.type in (pa.int32(), pa.int64())]
    return {"use_dictionary": sorted(repeating), "column_encoding": dict.fromkeys(counting, "DELTA_BINARY_PACKED")}


def _repeats(values: pa.ChunkedArray) -> bool:
    """Whether a value comes twice on average; types that cannot be counted are taken to repeat."""
    try:
        return bool(2 * pc.count_distinct(values).as_py() <= len(values))
    except pa.ArrowNotImplementedError:
        return True
