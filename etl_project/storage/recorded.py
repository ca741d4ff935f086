"""Recorded: the types that a frame had when it was written, so that it has them again when it is read.

Belongs here: what pandas and polars know of a column and a store does not (a category and its order, a missing integer,
a frequency, an object that is text), as a few hundred bytes that travel with the rows, and giving it back. Values are
the store's: a type that no longer fits them is not applied.

In a store a pandas Period is the moment at which it starts, an Interval a STRUCT of left and right.
"""

from __future__ import annotations

import io
import json
import sys
import typing
import zlib
from collections.abc import Mapping
from typing import Any, Literal, cast
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from etl_project.storage.arrow_spans import has_intervals, holds_intervals, spans_of
from etl_project.storage.arrow_types import is_hollow
from etl_project.storage.contract import ReadRefused, WriteRefused

DtypeBackend = Literal["numpy_nullable", "pyarrow"]
"""As `pandas.read_parquet` and its like call it."""
Dtypes = Literal["recorded", "numpy", "numpy_nullable", "pyarrow"]

_PANDAS, _POLARS = b"pandas:", b"polars:"
_MOST_BYTES = 256 * 1024
"""A record with more (a category of very many values) is not kept: reading it would cost more than it gives."""


def dtype_backend(value: Any) -> DtypeBackend | None:
    """The value, if it is one that pandas knows, or nothing. Raises ValueError naming those there are."""
    if value is None or value in typing.get_args(DtypeBackend):
        return cast("DtypeBackend | None", value)
    raise ValueError(f"dtype_backend is {value!r}, neither 'pyarrow' nor 'numpy_nullable'")


def of_pandas(table: pa.Table) -> bytes | None:
    """The record of a frame that became this table, with pandas' own metadata; None when it is too long."""
    columns = [c.combine_chunks().slice(0, 0) if c.num_chunks else pa.array([], c.type) for c in table.columns]
    columns = [_readable(c.chunk(0) if isinstance(c, pa.ChunkedArray) and c.num_chunks else c) for c in columns]
    schema = pa.schema([f.with_type(c.type) for f, c in zip(table.schema, columns, strict=True)], table.schema.metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    return _packed(_PANDAS, sink.getvalue().to_pybytes())


def _readable(column: pa.Array) -> pa.Array:
    """A category of Intervals or Periods as these: Arrow writes such a dictionary, and does not read it again."""
    of_extension = pa.types.is_dictionary(column.type) and isinstance(column.type.value_type, pa.BaseExtensionType)
    return column.dictionary.slice(0, 0) if of_extension else column


def of_polars(frame: Any) -> bytes | None:
    """The record of a polars frame; None when it is too long."""
    sink = io.BytesIO()
    frame.clear().write_ipc_stream(sink)
    return _packed(_POLARS, sink.getvalue())


def with_starts(table: pa.Table, frame: pd.DataFrame) -> pa.Table:
    """The table of a frame with every Period as the moment at which it starts."""
    for n, (name, dtype) in enumerate(zip(table.schema.names, frame.dtypes, strict=True)):
        if isinstance(dtype, pd.PeriodDtype):
            starts = pa.array(frame.iloc[:, n].dt.start_time, pa.timestamp("us"), from_pandas=True)
            table = table.set_column(n, name, starts)
    return table


def in_micros(table: pa.Table, *, spans: bool) -> pa.Table:
    """Times of day in microseconds, and with `spans` durations as a number of them: Parquet has no intervals.

    Raises WriteRefused (retrying does not help) for nanoseconds that are no whole microseconds.
    """
    for n, field in enumerate(table.schema):
        try:
            if spans and pa.types.is_duration(field.type):
                table = table.set_column(n, field.name, table.column(n).cast(pa.duration("us")).cast(pa.int64()))
            if field.type == pa.time64("ns"):
                table = table.set_column(n, field.name, table.column(n).cast(pa.time64("us")))
        except pa.ArrowInvalid as error:
            raise WriteRefused(
                f"Column {field.name!r} is of type {field.type}, and there it is microseconds: {error}. Nothing was "
                "changed; retrying does not help. Round it, or give it another type."
            ) from error
    return table


def to_pandas(rows: pa.Table, record: bytes | None, dtypes: Dtypes) -> pd.DataFrame:
    """The rows as a frame.

    "recorded": with the types that they were written with, and else "numpy": pandas' own types, save that integers and
    booleans with missing values stay integers and booleans. "pyarrow": every column Arrow-backed. "numpy_nullable":
    numbers, booleans and text in pandas' own types with `pandas.NA`, as pandas' readers give them by that name.
    """
    if dtypes == "numpy_nullable":
        rows = _with_durations(rows)
        nullable: pd.DataFrame = rows.to_pandas(types_mapper=_ALL_NULLABLE.get)
        for n, column in enumerate(rows.columns):
            if _lacks_integers_inside(column):
                nullable[rows.column_names[n]] = pd.Series(column.to_pylist(), dtype=object, index=nullable.index)
        return nullable
    if dtypes == "pyarrow":
        arrow_backed: pd.DataFrame = rows.to_pandas(types_mapper=pd.ArrowDtype)
        return arrow_backed
    written = sample(record) if dtypes == "recorded" else None
    if written is None:
        return _by_pandas(_with_durations(rows), {})
    fields = {field.name: field for field in written.schema}
    meta = {str(c["field_name"]): c for c in json.loads(written.schema.metadata[b"pandas"])["columns"]}
    columns = [_as_written(name, rows[name], fields.get(name)) for name in rows.column_names]
    # Named anew: pandas' metadata speaks of the frame as a whole, with the columns that are missing here.
    table = pa.table(columns, names=rows.column_names)
    kept = {n: c for n, c in meta.items() if n in rows.column_names and _still(table[n], c, fields[n])}
    return _in_order(_by_pandas(table, kept, fields, written), written, rows)


def to_polars(rows: pa.Table, record: bytes | None) -> Any:
    """The rows as a polars frame, with the types that it was written with where polars wrote it."""
    polars = sys.modules["polars"]
    spans = _with_durations(rows)
    months = [field.name for field in spans.schema if holds_intervals(field.type)]
    if months:
        raise ReadRefused(
            f"polars has no type for intervals, which {', '.join(map(repr, months))} has: of months, which differ "
            "in their length, or within a map. Retrying does not help. Annotate the input pyarrow.Table, or store days."
        )
    frame = polars.from_arrow(spans)
    if record is None or not record.startswith(_POLARS):
        return frame
    written = polars.read_ipc_stream(io.BytesIO(_unpacked(record))).schema
    for name, kind in written.items():
        if name not in frame.columns or frame.schema[name] == kind:
            continue
        try:
            column = frame[name]
            if kind.is_temporal() and column.dtype == polars.Int64:
                column = column.cast(polars.Duration("us"))
            frame = frame.with_columns(column.cast(kind).alias(name))
        except polars.exceptions.PolarsError:
            continue  # Other values are there now than such a type can hold.
    if not set(frame.columns) >= {name for name, kind in written.items() if kind != polars.Null}:
        return frame  # Only some of the columns were asked for.
    # What was written without any value has no type in a store.
    frame = frame.with_columns(polars.lit(None).alias(name) for name in written if name not in frame.columns)
    return frame.select([*written, *(name for name in frame.columns if name not in written)])


def _packed(library: bytes, content: bytes) -> bytes | None:
    packed = library + zlib.compress(content)
    return packed if len(packed) <= _MOST_BYTES else None


def _unpacked(record: bytes) -> bytes:
    return zlib.decompress(record.partition(b":")[2])


def sample(record: bytes | None) -> pa.Table | None:
    """The frame without rows that pandas wrote; None where another library did, or nobody said."""
    if record is None or not record.startswith(_PANDAS):
        return None
    # pandas tells Arrow of its own types when it first makes such an array. Before, a period would be read as a number.
    pa.array(pd.PeriodIndex([], freq="D"))
    table = pa.ipc.open_stream(_unpacked(record)).read_all()
    return table if b"pandas" in (table.schema.metadata or {}) else None


def _as_written(name: str, column: pa.ChunkedArray, field: pa.Field | None) -> pa.ChunkedArray:
    """The column in the Arrow type that it was written in; as it is stored where that does not hold its values."""
    column = _duration(column)
    if field is None or column.type == field.type:
        return column
    try:
        return _cast(column, field.type)
    except (pa.ArrowException, ValueError, TypeError):
        return column


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(kind):
        return _cast(column, kind.value_type) if pa.types.is_duration(kind.value_type) else column
    if pa.types.is_duration(kind):
        return (column.cast(pa.duration("us")) if pa.types.is_int64(column.type) else column).cast(kind)
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            values = [None if text is None else UUID(str(text)).bytes for text in column.to_pylist()]
            storage = pa.chunked_array([pa.array(values, pa.binary(16))])
        elif kind.extension_name == "pandas.period":
            return column  # Its starts; `_by_pandas` makes periods of them.
        else:
            storage = column.cast(kind.storage_type)
        return pa.chunked_array([pa.ExtensionArray.from_storage(kind, c) for c in storage.chunks], kind)
    return column.cast(kind)


def _still(column: pa.ChunkedArray, meta: Mapping[str, Any], field: pa.Field) -> bool:
    """Whether numpy's type can hold the values: it has no missing integer and no missing truth.

    A column that had no value when it was written had no type that could be given back, and one that is of another type
    now has another one.
    """
    by_hand = pa.types.is_dictionary(field.type) or getattr(field.type, "extension_name", "") == "pandas.period"
    if meta["pandas_type"] == "categorical" and not pa.types.is_dictionary(field.type):
        return False  # Of Intervals or Periods: its type alone says what they are.
    if is_hollow(field.type) or not (column.type == field.type or by_hand):
        return False
    if getattr(field.type, "extension_name", "") == "pandas.period":
        return bool(pa.types.is_timestamp(column.type)) and _periods(column, field.type.freq) is not None
    if meta["pandas_type"] == "categorical":
        return True  # Its numpy type is that of the codes.
    numpy_type = str(meta["numpy_type"])
    plain_number = numpy_type.startswith(("int", "uint", "bool")) and not numpy_type.startswith("interval")
    return not (plain_number and "[" not in numpy_type and column.null_count)


def _by_pandas(
    table: pa.Table,
    meta: Mapping[str, Mapping[str, Any]],
    fields: Mapping[str, pa.Field] | None = None,
    sample: pa.Table | None = None,
) -> pd.DataFrame:
    """The table as pandas makes it of its metadata, and by hand what pandas would make something else of."""
    about = {
        "index_columns": [],
        "column_indexes": [],
        "columns": [c for c in meta.values() if not _is_arrow_backed(c)],
        "pandas_version": pd.__version__,
    }
    described = table.replace_schema_metadata({"pandas": json.dumps(about)} if meta else None)
    frame: pd.DataFrame = described.to_pandas()
    for n, name in enumerate(table.column_names):
        made: Any = _by_hand(table.column(n), meta.get(name), None if fields is None else fields.get(name), sample)
        if made is not None:
            made.index = frame.index
            frame.isetitem(n, made)
    return frame


def _by_hand(
    column: pa.ChunkedArray, meta: Mapping[str, Any] | None, field: pa.Field | None, sample: pa.Table | None
) -> pd.Series[Any] | None:
    """The column where pandas' own way would change its values or its type; None where it does not."""
    kind = column.type
    if meta is None:
        missing = column.null_count and (pa.types.is_integer(kind) or pa.types.is_boolean(kind))
        as_objects = pd.Series(column.to_pylist(), dtype=object) if _lacks_integers_inside(column) else None
        return column.to_pandas(types_mapper=_NULLABLE.get) if missing else as_objects
    if _is_arrow_backed(meta):
        arrow_backed: pd.Series[Any] = column.to_pandas(types_mapper=pd.ArrowDtype)
        return arrow_backed
    if field is not None and sample is not None and pa.types.is_dictionary(field.type):
        alone = sample.select([field.name]).replace_schema_metadata(None)
        values, dtype = column.to_pandas(), alone.to_pandas().dtypes.iloc[0]
        known = int(values.isin(dtype.categories).sum()) + column.null_count == len(values)
        return values.astype(dtype) if known else None
    if field is not None and getattr(field.type, "extension_name", "") == "pandas.period":
        return _periods(column, field.type.freq)
    if meta["numpy_type"] == "object" and any(is_such(kind) for is_such in _AS_OBJECTS):
        return pd.Series(column.to_pylist(), dtype=object)
    return None


def _periods(column: pa.ChunkedArray, frequency: str) -> pd.Series[Any] | None:
    """The moments as periods; None where one of them is no start of such a period, as another frequency's need not be.

    The record is that of the frame written last: a day that was written before it may have had other periods.
    """
    starts = column.to_pandas()
    periods = starts.dt.to_period(frequency)
    same = (periods.dt.start_time == starts) | starts.isna()
    return periods if bool(same.all()) else None


def _is_arrow_backed(meta: Mapping[str, Any]) -> bool:
    """Of such a type pandas does not read every name that it writes."""
    return str(meta["numpy_type"]).endswith("[pyarrow]")


def _chunks(column: pa.ChunkedArray | pa.Array) -> list[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]


def _lacks_integers_inside(column: pa.ChunkedArray | pa.Array) -> bool:
    """Whether integers are missing inside of lists or records: numpy would make fractions of those beside them."""
    kind = column.type
    if pa.types.is_struct(kind):
        inside = column.flatten()
    elif pa.types.is_map(kind):
        inside = [part for chunk in _chunks(column) for part in (chunk.keys, chunk.items)]
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inside = [pc.list_flatten(column)]
    else:
        return False
    return any(_lacks_integers_inside(c) or (pa.types.is_integer(c.type) and c.null_count) for c in inside)


_AS_OBJECTS = (
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_list, pa.types.is_large_list, pa.types.is_struct),
    *(pa.types.is_integer, pa.types.is_floating),
)
"""What pandas makes an array or a number with NaN of, although it was written as objects of Python."""


_NULLABLE: dict[pa.DataType, Any] = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}

_ALL_NULLABLE: dict[pa.DataType, Any] = {
    **_NULLABLE,
    pa.float32(): pd.Float32Dtype(),
    pa.float64(): pd.Float64Dtype(),
    pa.string(): pd.StringDtype(),
    pa.large_string(): pd.StringDtype(),
}


def _in_order(frame: pd.DataFrame, sample: pa.Table, rows: pa.Table) -> pd.DataFrame:
    """The frame with the columns that were written without any value, which no store has a type for."""
    names = sample.schema.names
    if not set(rows.column_names) >= {f.name for f in sample.schema if not is_hollow(f.type)}:
        return frame  # Only some of the columns were asked for.
    for n, field in enumerate(sample.schema):
        if field.name not in frame.columns and is_hollow(field.type):
            frame.insert(min(n, len(frame.columns)), field.name, pd.Series([None] * len(frame), dtype=object))
    return frame[[*names, *(c for c in frame.columns if c not in names)]]


def _with_durations(rows: pa.Table) -> pa.Table:
    columns = [_duration(column) for column in rows.columns]
    return pa.table(columns, names=rows.column_names)


def _duration(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Intervals without months as durations, at any depth: pandas and polars can count with those."""
    if not has_intervals(column.type):
        return column
    whole = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return pa.chunked_array([spans_of(whole)])
