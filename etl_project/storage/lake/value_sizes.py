"""Widths: how much the values of some rows come to, as a property of the values alone.

Belongs here: a measure that is the same in whatever batches and buffers the rows lie, so that what is cut by it is cut
at the same rows every time. It is no measure of memory: padding, masks and shared buffers do not count.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_UNKNOWN_BITS = 128
_OFFSET_BITS = 32


def bits_of(rows: pa.RecordBatch) -> int:
    """The sum over all values; that of two lots of rows is the sum of both."""
    return sum(_bits(column) for column in rows.columns)


def that_fit(rows: pa.RecordBatch, bits: int) -> int:
    """How many rows from the first on come to no more than so many bits together."""
    if bits_of(rows) <= bits:
        return int(rows.num_rows)
    fitting, too_many = 0, rows.num_rows
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        if bits_of(rows.slice(0, middle)) <= bits:
            fitting = middle
        else:
            too_many = middle
    return fitting


def _bits(values: pa.Array) -> int:
    kind = values.type
    if pa.types.is_struct(kind):
        return sum(_bits(child) for child in values.flatten())
    if pa.types.is_map(kind):
        pairs = pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
        return _bits(values.cast(pairs))
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return len(values) * _OFFSET_BITS + _bits(values.flatten())
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        values = values.cast(pa.large_binary())
    try:
        return len(values) * _OFFSET_BITS + 8 * (pc.sum(pc.binary_length(values)).as_py() or 0)
    except pa.ArrowNotImplementedError:
        pass  # No text and no bytes: every value is as wide as any other.
    try:
        return len(values) * int(kind.bit_width)
    except ValueError:
        return len(values) * _UNKNOWN_BITS
