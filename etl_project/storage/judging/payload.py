"""Payload: incoming data as something DuckDB can scan more than once.

Belongs here: telling what kind of thing an asset returned, and making a relation of it. What already lies in memory is
scanned in place; what can be read only once (a stream, a query that may answer differently the second time) is
staged in a temporary table, which DuckDB moves to disk when memory runs out. A kill leaves nothing of it behind.
A store that can do with one look at each row may ask for a long stream as it is, and stage it when it cannot.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from etl_project.storage.arrow_types import is_hollow, plain
from etl_project.storage.arrow_values import with_whole_spans
from etl_project.storage.contract import Slice, Sql, WriteRefused
from etl_project.storage.judging import gather, labels, objects, untyped
from etl_project.storage.judging.drift import Column
from etl_project.storage.sql import quote, unique

_HELD_ROWS = 500_000
_HELD_BYTES = 256 * 1024**2
"""Up to so much of a stream is held in memory; a longer one, or one of wider rows, stays a stream."""


class Payload:
    """Rows that can be scanned as often as needed, as `name`, for as long as the block that made it lasts.

    While `stream` is set they cannot: each comes from it once, and `name` stands for no rows, or for some at a time.
    """

    def __init__(self, name: str, columns: Sequence[Column], stream: pa.RecordBatchReader | None = None) -> None:
        self.name = name
        self.columns = tuple(columns)
        self.stream = stream

    def stage(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Copy a stream that nobody has taken from, so that it can be scanned."""
        if self.stream is not None:
            connection.unregister(self.name)
            _stage_arrow(connection, self.name, self.stream)
            self.stream = None


@contextmanager
def scannable(
    connection: duckdb.DuckDBPyConnection, data: Any, stage: bool = False, stream: bool = False
) -> Iterator[Payload]:
    """Make the data a relation of the connection; `stage` copies even what could be scanned in place.

    `stream`: a long stream is handed out as it is. Raises WriteRefused for anything that is not a frame (retrying
    does not help).
    """
    name = unique("etl_payload")
    passing: pa.RecordBatchReader | None = None
    # Before its rows are asked for: any later question on its connection ends them in the middle, without an error.
    of_relation = untyped.of_relation(data) if isinstance(data, duckdb.DuckDBPyRelation) else None
    source = data if isinstance(data, Sql) else as_arrow(data)
    if isinstance(source, Sql):
        said = _stage_query(connection, name, source)
        hollow = {column for column, kind in said.items() if untyped.is_hollow(kind)}
        empty = {column for column, kind in said.items() if kind.id == "null"}
    else:
        _refuse_unnamed(source.schema.names)
        _refuse_twice(source.schema.names)
        source = _held_if_short(with_whole_spans(source))
        empty = {field.name for field in source.schema if pa.types.is_null(field.type)}
        hollow = {field.name for field in source.schema if is_hollow(field.type)}
        said = untyped.of_arrow(connection, source.schema) if of_relation is None else of_relation
        if stream and isinstance(source, pa.RecordBatchReader):
            passing = source
            connection.register(name, source.schema.empty_table())
        elif stage or isinstance(source, pa.RecordBatchReader):
            _stage_arrow(connection, name, source)
        else:
            connection.register(name, source)
    try:
        yield Payload(name, _columns(connection, name, empty, hollow, said), passing)
    finally:
        _forget(connection, name)


def as_arrow(data: Any) -> pa.Table | pa.RecordBatchReader:
    """The data as an Arrow table, or as a stream of batches where it can be read only once."""
    try:
        if isinstance(data, pa.Table | pa.RecordBatchReader):
            return plain(data)
        if isinstance(data, pd.DataFrame):
            return plain(without_guesses(from_pandas(data), data))
        if isinstance(data, pd.Series):
            raise WriteRefused(
                "A pandas Series is one column, and its index would be lost. Nothing was changed; retrying does not "
                "help. Return a frame: `series.reset_index()`, or `series.to_frame()` if nobody needs the index."
            )
        if isinstance(data, pa.RecordBatch):
            return plain(pa.Table.from_batches([data]))
        if hasattr(data, "__arrow_c_stream__"):
            _refuse_objects(data)
            return plain(_from_stream(data))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise WriteRefused(
            f"The data has a column that is not of one type: {error}. Nothing was changed; retrying does not help. "
            "Give every column one type."
        ) from error
    raise WriteRefused(
        f"Expected rows (pandas, pyarrow, polars, a stream that speaks Arrow) or Sql, got {type(data).__name__}. "
        "Nothing was changed; retrying does not help. Return a frame; an empty one if there are no rows."
    )


def from_pandas(frame: pd.DataFrame) -> pa.Table:
    """The frame without its index, with pandas' metadata.

    Raises WriteRefused for what Arrow has no type for, and for labels that would be lost.
    """
    labels.refuse_lost(frame)
    _refuse_lost_objects(frame)
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        for n, dtype in enumerate(frame.dtypes):
            if isinstance(dtype, pd.CategoricalDtype) and not len(dtype.categories):
                table = table.set_column(n, table.field(n).with_type(pa.null()), pa.nulls(len(frame)))
        return table
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise WriteRefused(
            f"The data has a column that is not of one type: {error}. Nothing was changed; retrying does not help. "
            "Give every column one type."
        ) from error


def _refuse_lost_objects(frame: pd.DataFrame) -> None:
    """All columns at once of whose objects Arrow would make others."""
    said = []
    for n, dtype in enumerate(frame.dtypes):
        values = dtype.categories if isinstance(dtype, pd.CategoricalDtype) else frame.iloc[:, n]
        if values.dtype == object and (lost := objects.lost(values.to_numpy())):
            said.append(objects.refusal(str(frame.columns[n]), lost))
    if said:
        raise WriteRefused("\n".join(said))


def without_guesses(table: pa.Table, frame: pd.DataFrame) -> pa.Table:
    """The table of a frame; without rows, `object` and `float64` are what pandas makes of nothing."""
    table = table.replace_schema_metadata(None)
    if len(frame) or not len(frame.columns):
        return table
    hollow = [str(dtype) in ("object", "float64") for dtype in frame.dtypes]
    fields = [f.with_type(pa.null()) if empty else f for f, empty in zip(table.schema, hollow, strict=True)]
    return pa.schema(fields).empty_table()


def _refuse_objects(data: Any) -> None:
    """polars hands objects of Python on as their addresses in memory, which are no values of anything."""
    polars = sys.modules.get("polars")
    if polars is None or not isinstance(data, polars.DataFrame):
        return
    _refuse_unnamed(data.columns)  # polars itself would end the process over a NUL.
    objects = [name for name, kind in data.schema.items() if kind == polars.Object]
    if objects:
        raise WriteRefused(
            f"Columns of Python objects cannot be stored: {', '.join(map(repr, objects))}. Nothing was changed; "
            "retrying does not help. Give them a type of polars."
        )
    wide = [name for name, kind in data.schema.items() if str(kind) in ("Int128", "UInt128")]
    if wide:
        raise WriteRefused(
            f"Arrow has no integers of 128 bits: {', '.join(map(repr, wide))}. Nothing was changed; retrying does not "
            "help. Cast them to Int64, or to Decimal(38, 0)."
        )


def _from_stream(data: Any) -> pa.Table | pa.RecordBatchReader:
    """A frame of another library is shared in place; anything else is taken for a stream."""
    if isinstance(data, duckdb.DuckDBPyRelation):
        hollow = {name for name, kind in untyped.of_relation(data).items() if untyped.is_hollow(kind)}
        rows = pa.RecordBatchReader.from_stream(data)
        return untyped.as_nothing(rows, hollow) if hollow else rows
    reader = pa.RecordBatchReader.from_stream(data)
    in_memory = hasattr(data, "__len__")
    return reader.read_all() if in_memory else reader


def _held_if_short(source: pa.Table | pa.RecordBatchReader) -> pa.Table | pa.RecordBatchReader:
    """A short stream is read into memory, where it can be scanned in place; a long one stays a stream.

    Either way in batches that are worth their overhead: thousands of small ones would take more memory than all rows.
    """
    if isinstance(source, pa.Table):
        return gather.with_large_chunks(source)
    batches, rows, size_bytes = [], 0, 0
    passing = gather.gathered(source)
    for batch in passing:
        batches.append(batch)
        rows += batch.num_rows
        size_bytes += batch.get_total_buffer_size()
        if rows > _HELD_ROWS or size_bytes > _HELD_BYTES:
            return pa.RecordBatchReader.from_batches(source.schema, chain(batches, passing))
    return pa.Table.from_batches(batches, source.schema)


def run_sql(query: Sql, by_name: bool = False) -> tuple[str, dict[str, Any]]:
    """The query over its slices as one statement and its values. `by_name`: not for two columns of one name."""
    params: dict[str, Any] = {}
    inputs = []
    for name, piece in query.inputs.items():
        params.update(piece.params)
        inputs.append(f"{quote(name)} AS ({piece.sql})")
    with_inputs = f"WITH {', '.join(inputs)} " if inputs else ""
    whole = f"(\n{query.query.strip().rstrip(';')}\n)"
    if by_name:
        whole = f"({whole} UNION ALL BY NAME (SELECT NULL AS etl_other WHERE false))"
    return f"{with_inputs}SELECT * FROM {whole}", params


def slices_of(data: Any) -> list[Slice]:
    """The lazy reads that the data consists of."""
    return list(data.inputs.values()) if isinstance(data, Sql) else []


def _stage_query(connection: duckdb.DuckDBPyConnection, name: str, query: Sql) -> Mapping[str, Any]:
    """Run it into a table; what DuckDB says of its columns that have no type yet, at some depth."""
    statement, params = run_sql(query)
    try:
        connection.execute(f"CREATE TEMP TABLE {quote(name)} AS {statement}", params)
    except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
        raise WriteRefused(f"The query failed: {error}\nNothing was changed; retrying does not help.") from error
    _refuse_renamed(connection, name, query)
    return untyped.of_query(connection, name, statement, params)


def _refuse_renamed(connection: duckdb.DuckDBPyConnection, name: str, query: Sql) -> None:
    """Of two columns of a query with one name, DuckDB calls the second one `name_1`: it is nobody's column then."""
    names = connection.table(name).columns
    lowered = {column.lower() for column in names}
    like_renamed = [column for column in names if column.lower().rpartition("_")[0] in lowered]
    if not like_renamed:
        return
    statement, params = run_sql(query, by_name=True)
    try:  # EXPLAIN runs nothing.
        connection.execute(f"EXPLAIN {statement}", params)
    except duckdb.BinderException as error:
        if "duplicate names" not in str(error):
            raise
        _forget(connection, name)
        raise WriteRefused(
            f"The query has columns of one name (case does not count); {', '.join(map(repr, like_renamed))} would be "
            "stored instead. Nothing was changed; retrying does not help. Name each column once: `AS` another name, or "
            "for a join `SELECT a.*, b.* EXCLUDE (id)`."
        ) from error


def _stage_arrow(connection: duckdb.DuckDBPyConnection, name: str, source: pa.Table | pa.RecordBatchReader) -> None:
    """Copy the rows. What the maker of a stream raises is raised as it is; DuckDB would wrap it in its own error."""
    stream = unique("etl_stream")
    raised: list[Exception] = []
    connection.register(stream, source if isinstance(source, pa.Table) else _watched(source, raised))
    try:
        connection.execute(f"CREATE TEMP TABLE {quote(name)} AS SELECT * FROM {quote(stream)}")
    except duckdb.Error as error:
        raise (raised[0] if raised else error) from None
    finally:
        connection.unregister(stream)


def _watched(source: pa.RecordBatchReader, raised: list[Exception]) -> pa.RecordBatchReader:
    """The same stream; its error is noted in `raised`."""

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from source
        except Exception as error:
            raised.append(error)
            raise

    return pa.RecordBatchReader.from_batches(source.schema, batches())


def _columns(
    connection: duckdb.DuckDBPyConnection, name: str, empty: set[str], hollow: set[str], said: Mapping[str, Any]
) -> list[Column]:
    relation = connection.sql(f"SELECT * FROM {quote(name)}")
    return [
        Column(column, kind, untyped=column in empty, hollow=column in hollow, said=said.get(column))
        for column, kind in zip(relation.columns, relation.types, strict=True)
    ]


def _refuse_unnamed(names: Sequence[str]) -> None:
    """DuckDB would give a column without a name one of its own, and end a name at a NUL."""
    unusable = [name for name in names if not name or "\0" in name]
    if unusable:
        raise WriteRefused(
            f"Columns have names that no table can have: {', '.join(map(repr, unusable))} (empty, or with a NUL). "
            "Nothing was changed; retrying does not help. Name each column."
        )


def _refuse_twice(names: Sequence[str]) -> None:
    """DuckDB would rename the second of two columns; the caller meant something else."""
    lowered = [name.lower() for name in names]
    twice = sorted({name for name in names if lowered.count(name.lower()) > 1})
    if twice:
        raise WriteRefused(
            f"Columns come twice: {', '.join(map(repr, twice))} (case does not count). Nothing was changed; "
            "retrying does not help. Name each column once."
        )


def _forget(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Free the memory; after a fatal error the connection can no longer be asked, and closing it frees it too."""
    with suppress(duckdb.Error):
        connection.unregister(name)
        connection.execute(f"DROP TABLE IF EXISTS {quote(name)}")
