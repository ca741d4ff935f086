"""Arrow values: those that a column of their type may have, and that no reader would give back.

Belongs here: bytes in a column of text that are no UTF-8 (a file with them is written, and never read), spans of time
that are longer than an interval's way back, and nanoseconds within them. Types are `arrow_types`' part.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.storage.arrow_spans import parts_of
from etl_project.storage.contract import WriteRefused

_MOST_MICROS = (2**63 - 1) // 1000
"""DuckDB hands spans on in nanoseconds: about 292 years of them fit."""


def checked(data: pa.Table | pa.RecordBatchReader) -> pa.Table | pa.RecordBatchReader:
    """The same data; a stream is looked at batch by batch as it is read.

    Raises WriteRefused (retrying does not help) naming a column whose bytes are not what its type says.
    """
    if isinstance(data, pa.Table):
        for field, column in zip(data.schema, data.columns, strict=True):
            _refuse_invalid(field, column)
        return data

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in data:
            for field, column in zip(batch.schema, batch.columns, strict=True):
                _refuse_invalid(field, column)
            yield batch

    return pa.RecordBatchReader.from_batches(data.schema, batches()) if _may_be_invalid(data.schema) else data


def with_whole_spans(data: pa.Table | pa.RecordBatchReader) -> pa.Table | pa.RecordBatchReader:
    """The same data, for a store that has intervals.

    Raises WriteRefused (retrying does not help) for spans that would come back as others: they are too long, or have
    nanoseconds.
    """
    named = [field for field in data.schema if _has_spans(field.type)]
    if not named:
        return data
    if isinstance(data, pa.Table):
        for field in named:
            for chunk in data.column(field.name).chunks:
                _refuse_spans(field, chunk)
        return data

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in data:
            for field in named:
                _refuse_spans(field, batch.column(field.name))
            yield batch

    return pa.RecordBatchReader.from_batches(data.schema, batches())


def _may_be_invalid(schema: pa.Schema) -> bool:
    return any(_has_text(field.type) for field in schema)


def _has_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _has_text(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_has_text(kind.field(n).type) for n in range(kind.num_fields))
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _refuse_invalid(field: pa.Field, column: pa.ChunkedArray | pa.Array) -> None:
    if not _has_text(field.type):
        return
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise WriteRefused(
            f"Column {field.name!r} is of type {field.type}, and has values that are none: {error}. Nothing was "
            "changed; retrying does not help. Decode the bytes to text, or store them as binary."
        ) from error


def _has_spans(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_has_spans(kind.field(n).type) for n in range(kind.num_fields))
    return bool(pa.types.is_duration(kind) or kind == pa.month_day_nano_interval())


def _refuse_spans(field: pa.Field, values: pa.Array) -> None:
    for leaf in _leaves(values):
        if _is_changed(leaf):
            raise WriteRefused(
                f"Column {field.name!r} is of type {field.type} and has spans of more than 292 years or in "
                "nanoseconds, which an interval does not keep. Nothing was changed; retrying does not help. Store them "
                "as a number."
            )


def _leaves(values: pa.Array) -> Iterator[pa.Array]:
    kind = values.type
    if not _has_spans(kind):
        return
    if pa.types.is_struct(kind):
        for child in values.flatten():
            yield from _leaves(child)
    elif pa.types.is_map(kind):
        used = values.drop_null()
        yield from (leaf for part in (used.keys, used.items) for leaf in _leaves(part))
    elif pa.types.is_nested(kind):
        yield from _leaves(values.flatten())
    else:
        yield values.drop_null()


def _is_changed(spans: pa.Array) -> bool:
    if not len(spans):
        return False
    if pa.types.is_duration(spans.type):
        ends = pc.min_max(spans.cast(pa.duration("us"), safe=False).cast(pa.int64()))
        return bool(ends["min"].as_py() < -_MOST_MICROS or ends["max"].as_py() > _MOST_MICROS)
    nanos = parts_of(spans)["nanos"]
    return bool((nanos % 1000 != 0).any())
