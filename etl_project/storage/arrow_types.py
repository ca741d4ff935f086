"""Arrow types: every layout that a producer may send, as one that every reader understands, or refused by name.

Belongs here: views, dictionaries and run-end encodings as plain values at any depth, and which types have no lossless
home in a store. Values are never changed: what would lose something by its new type is refused.

| Comes as | Is stored as |
| --- | --- |
| string and binary views, dictionaries, run-end encodings, list views | their plain values |
| float16 | float32 |
| decimal256, a negative scale | DECIMAL of 38 digits, where every value fits |
| a struct without fields | nothing: it has no value at any depth |
| timestamps with a zone in nanoseconds, durations | in microseconds, where every value fits |
| pandas Interval | STRUCT of left and right |
| unions, pandas Period, extension types of others | refused |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.storage.contract import WriteRefused

_DIGITS = 38


def plain(data: pa.Table | pa.RecordBatchReader) -> pa.Table | pa.RecordBatchReader:
    """The same values in plain layouts; data that has only those is given back as it is.

    A stream stays a stream. Raises WriteRefused (retrying does not help) naming every column that cannot be stored.
    """
    schema = _plain_schema(data.schema)
    if schema is None:
        return data
    if isinstance(data, pa.Table):
        columns = [_column(field, column) for field, column in zip(data.schema, data.columns, strict=True)]
        return pa.table(columns, schema=schema)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in data:
            columns = [_converted(field, column) for field, column in zip(batch.schema, batch.columns, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def is_hollow(kind: pa.DataType) -> bool:
    """Whether the type was made of nothing: there is no value at any depth that would tell one."""
    if pa.types.is_null(kind):
        return True
    if pa.types.is_dictionary(kind):
        return is_hollow(kind.value_type)
    if pa.types.is_map(kind):
        return is_hollow(kind.key_type) and is_hollow(kind.item_type)
    if pa.types.is_struct(kind):
        return all(is_hollow(field.type) for field in kind)
    return _is_list(kind) and is_hollow(kind.value_type)


def _plain_schema(schema: pa.Schema) -> pa.Schema | None:
    """The schema in plain types; None when it has only those."""
    fields, problems = [], []
    for field in schema:
        try:
            fields.append(field.with_type(_plain_type(field.type)))
        except TypeError as error:
            problems.append(f"column {field.name!r} is of type {field.type}: {error}")
    if problems:
        raise WriteRefused(f"{'; '.join(problems)}. Nothing was changed; retrying does not help. Give it another type.")
    same = all(one.type == other.type for one, other in zip(fields, schema, strict=True))
    return None if same else pa.schema(fields, schema.metadata)


def _plain_type(kind: pa.DataType) -> pa.DataType:  # noqa: PLR0911  # One line a kind of type.
    """The type that values of this one are handed on in. Raises TypeError saying why there is none."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_extension(kind)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_struct(kind):
        if not kind.num_fields:
            return pa.null()
        return pa.struct([field.with_type(_plain_type(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    if _is_list(kind):
        inner = _plain_type(kind.value_type)
        if pa.types.is_fixed_size_list(kind):
            return kind if inner == kind.value_type else pa.list_(inner, kind.list_size)
        return kind if inner == kind.value_type and not _is_list_view(kind) else pa.large_list(inner)
    if pa.types.is_union(kind):
        raise TypeError("a column of several types has no home")
    return _plain_leaf(kind)


def _plain_leaf(kind: pa.DataType) -> pa.DataType:
    plain_types: list[tuple[Callable[[pa.DataType], bool], pa.DataType]] = [
        (pa.types.is_string_view, pa.large_string()),
        (pa.types.is_binary_view, pa.large_binary()),
        (pa.types.is_float16, pa.float32()),
    ]
    for fits, instead in plain_types:
        if fits(kind):
            return instead
    if pa.types.is_decimal256(kind):
        if kind.scale > _DIGITS:
            raise TypeError(f"no DECIMAL holds {kind.scale} digits behind the point")
        return pa.decimal128(min(kind.precision, _DIGITS), kind.scale)
    if pa.types.is_decimal(kind) and kind.scale < 0:
        return pa.decimal128(min(kind.precision - kind.scale, _DIGITS), 0)
    if pa.types.is_timestamp(kind) and kind.unit == "ns" and kind.tz is not None:
        return pa.timestamp("us", kind.tz)
    if pa.types.is_duration(kind) and kind.unit != "us":
        return pa.duration("us")
    return kind


def _plain_extension(kind: Any) -> pa.DataType:
    """Extensions that Arrow itself defines are known to readers; an Interval is the two values it consists of."""
    if kind.extension_name.startswith("arrow.") or not hasattr(kind, "storage_type"):
        return kind
    if kind.extension_name == "pandas.interval":
        return _plain_type(kind.storage_type)
    advice = "turn it into text or a timestamp" if kind.extension_name == "pandas.period" else "cast it to its storage"
    raise TypeError(f"what its values mean would be lost; {advice}")


def _column(field: pa.Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    chunks = [_converted(field, chunk) for chunk in column.chunks]
    return pa.chunked_array(chunks, _plain_type(field.type))


def _converted(field: pa.Field, values: pa.Array) -> pa.Array:
    try:
        return _plain_array(values)
    except pa.ArrowException as error:
        raise WriteRefused(
            f"Column {field.name!r} is of type {field.type}, and its values have no lossless home: {error}. Nothing "
            "was changed; retrying does not help. Give it another type."
        ) from error


def _plain_array(values: pa.Array) -> pa.Array:  # noqa: PLR0911  # One line a kind of type.
    """The values in the plain type. By hand where casts of some versions of Arrow are missing or wrong (list views)."""
    kind = values.type
    wanted = _plain_type(kind)
    if wanted == kind:
        return values
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_array(values.storage)
    if pa.types.is_dictionary(kind):
        return _plain_array(values.dictionary).take(values.indices)
    if pa.types.is_run_end_encoded(kind):
        return _plain_array(pc.run_end_decode(values))
    missing = pc.is_null(values)
    if pa.types.is_struct(kind):
        if not kind.num_fields:
            return pa.nulls(len(values))
        children = [_plain_array(child) for child in values.flatten()]
        return pa.StructArray.from_arrays(children, fields=list(wanted), mask=missing)
    if pa.types.is_fixed_size_list(kind):
        start = values.offset * kind.list_size
        inner = values.values.slice(start, len(values) * kind.list_size)
        return pa.FixedSizeListArray.from_arrays(_plain_array(inner), type=wanted, mask=missing)
    if _is_list(kind):
        return _plain_list(values, wanted, missing)
    return values.cast(wanted)


def _plain_list(values: pa.Array, wanted: pa.DataType, missing: pa.Array) -> pa.Array:
    lengths = values.sizes if _is_list_view(values.type) else pc.list_value_length(values)
    lengths = pc.if_else(missing, 0, lengths).cast(pa.int64())
    zero = pa.array([0], pa.int64())
    offsets = pa.concat_arrays([zero, pc.cumulative_sum(lengths)]) if len(lengths) else zero
    return pa.LargeListArray.from_arrays(offsets, _plain_array(values.flatten()), type=wanted, mask=missing)


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, _is_list_view)
    return any(test(kind) for test in tests)


def _is_list_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))
