"""Arrow spans: intervals of months, days and nanoseconds, which DuckDB hands out, as durations.

Belongs here: finding them at any depth, and the durations they stand for. An interval that has months is as long as
the month it is added to, so it has no duration and stays what it is.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_PARTS = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanos", "<i8")])
_MICROS_A_DAY = 86_400 * 10**6


def holds_intervals(kind: pa.DataType) -> bool:
    """Whether there are intervals in it, at any depth."""
    if pa.types.is_nested(kind):
        return any(holds_intervals(kind.field(n).type) for n in range(kind.num_fields))
    return bool(kind == pa.month_day_nano_interval())


def has_intervals(kind: pa.DataType) -> bool:
    """The same, but for those within maps, which stay what they are."""
    if pa.types.is_nested(kind):
        return not pa.types.is_map(kind) and any(has_intervals(kind.field(n).type) for n in range(kind.num_fields))
    return bool(kind == pa.month_day_nano_interval())


def parts_of(intervals: pa.Array) -> np.ndarray:
    """Months, days and nanoseconds of each interval; of a missing one whatever is there."""
    return np.frombuffer(
        intervals.buffers()[1], _PARTS, count=len(intervals), offset=intervals.offset * _PARTS.itemsize
    )


def spans_of(values: pa.Array) -> pa.Array:
    """The values with every interval as a duration; those of a place that has one with months stay intervals."""
    kind = values.type
    if not has_intervals(kind):
        return values
    missing = pc.is_null(values)
    if pa.types.is_struct(kind):
        children = [spans_of(child) for child in values.flatten()]
        fields = [field.with_type(child.type) for field, child in zip(kind, children, strict=True)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=missing)
    if pa.types.is_fixed_size_list(kind):
        inner = spans_of(values.values.slice(values.offset * kind.list_size, len(values) * kind.list_size))
        return pa.FixedSizeListArray.from_arrays(inner, type=pa.list_(inner.type, kind.list_size), mask=missing)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.if_else(missing, 0, pc.list_value_length(values)).cast(pa.int64())
        offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
        inner = spans_of(values.flatten())
        return pa.LargeListArray.from_arrays(offsets, inner, type=pa.large_list(inner.type), mask=missing)
    return _durations(values) if kind == pa.month_day_nano_interval() else values


def _durations(intervals: pa.Array) -> pa.Array:
    parts, missing = parts_of(intervals), np.asarray(intervals.is_null())
    if (parts["months"][~missing] != 0).any():
        return intervals
    micros = parts["days"].astype("int64") * _MICROS_A_DAY + parts["nanos"] // 1000
    return pa.array(micros, pa.int64(), mask=missing).cast(pa.duration("us"))
