"""Gather: many small Arrow batches as fewer larger ones, the same rows in the same order.

Belongs here: the one place that joins batches. Does not belong here: where they come from, or how many rows a file's
row group has (`draft`).

A source of many small files gives a batch of a few rows for each. Whatever scans such a batch works in vectors and
buffers of a fixed size, each filled by a few rows: two thousand batches of five rows took more memory than a gigabyte
of rows in large ones. Large batches are passed on as they are, without a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

ENOUGH_ROWS = 8_192
"""A batch of so many rows is worth its own overhead."""

_ENOUGH_BYTES = 4 * 1024**2
"""So is a batch of wide rows."""

_MOST_PIECES = 512
"""Batches held at a time, however small: each takes some 10 kB even without rows."""


def gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in the same order, in batches of at least some thousand rows where there are so many.

    A large batch is passed on as it is. One without rows is left out: the schema is known without it. Memory: the batch
    being made, twice.
    """
    held: list[pa.RecordBatch] = []
    rows, size_bytes = 0, 0
    for batch in batches:
        if _is_large(batch.num_rows, batch.nbytes):
            yield from _joined(held)
            yield batch
            held, rows, size_bytes = [], 0, 0
        elif batch.num_rows:
            held.append(batch)
            rows, size_bytes = rows + batch.num_rows, size_bytes + batch.nbytes
            if _is_large(rows, size_bytes) or len(held) == _MOST_PIECES:
                yield from _joined(held)
                held, rows, size_bytes = [], 0, 0
    yield from _joined(held)


def with_large_chunks(table: pa.Table) -> pa.Table:
    """The table itself, or, where it lies in many small chunks, the same rows in larger ones."""
    chunks = max((column.num_chunks for column in table.columns), default=0)
    if chunks < 2 or table.num_rows >= chunks * ENOUGH_ROWS // 8:
        return table
    return pa.Table.from_batches(gathered(table.to_batches()), table.schema)


def _is_large(rows: int, size_bytes: int) -> bool:
    return rows >= ENOUGH_ROWS or size_bytes >= _ENOUGH_BYTES


def _joined(held: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """One batch, where the types of all columns can be joined."""
    if len(held) < 2:
        yield from held
        return
    try:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches()
    except pa.ArrowNotImplementedError:
        yield from held
