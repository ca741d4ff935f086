"""Received: what an asset's body returned, as rows for a store.

Belongs here: the forms that are no frame of their own: a frame for each partition, a list of dictionaries, a lazy
frame, a frame without columns. What a frame, a stream or a query becomes is `payload`'s.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from etl_project.storage import recorded
from etl_project.storage.arrow_values import checked
from etl_project.storage.contract import ReadRefused, Scope, Slice, Sql, Store, Table, WriteRefused
from etl_project.storage.judging import labels, objects
from etl_project.storage.judging.messages import refused
from etl_project.storage.judging.payload import as_arrow, from_pandas, without_guesses
from etl_project.storage.tables.table import SqlTable


def rows_of(  # noqa: PLR0911  # One line a form.
    store: Store, table: Table, scope: Scope, data: Any
) -> tuple[Any, bytes | None]:
    """The rows in a form that `Store.replace` takes, and what is to be kept of their types as a frame.

    Raises WriteRefused (retrying does not help) for what is no rows.
    """
    if data is None:
        raise WriteRefused(
            refused(
                table,
                scope,
                ["the asset returned None"],
                "Return a frame, an empty one if there are no rows. An asset that stores its rows by itself is "
                "annotated `-> None`.",
            )
        )
    if isinstance(data, Sql):
        return data, None
    if isinstance(data, Mapping):
        return _in(store, checked(_stacked(table, scope, data))), None
    if _is_list_of_rows(data):
        return _without_columns(store, table, scope) if not data else as_arrow(_from_rows(data)), None
    data = _collected(data)
    if isinstance(data, pd.DataFrame):
        labels.refuse_lost(data)
    if _has_no_columns(data):
        return _without_columns(store, table, scope), None
    if isinstance(data, pd.DataFrame):
        rows = from_pandas(data)
        return _in(store, without_guesses(recorded.with_starts(rows, data), data)), recorded.of_pandas(rows)
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(data, polars.DataFrame):
        return _in(store, as_arrow(data)), recorded.of_polars(data)
    if isinstance(data, duckdb.DuckDBPyRelation):
        return data, None
    return _in(store, checked(as_arrow(data))), None


def _in(store: Store, data: Any) -> Any:
    """The rows as this store can keep them."""
    spans = not getattr(store, "has_intervals", True)
    if not isinstance(data, pa.Table) or (getattr(store, "has_nanoseconds", True) and not spans):
        return data
    return recorded.in_micros(as_arrow(data), spans=spans)


def _stacked(table: Table, scope: Scope, frames: Mapping[Any, Any]) -> pa.Table:
    """The frames of all partitions as one: exactly one for each of them."""
    keys = {str(partition.key) for partition in scope.partitions}
    problems = [f"there is a frame for {key!r}, which is none of these partitions" for key in frames if key not in keys]
    problems += [f"there is no frame for {key!r}" for key in sorted(keys) if key not in frames]
    if problems:
        advice = "Return one frame for each partition, an empty one where there are no rows."
        raise WriteRefused(refused(table, scope, problems, advice))
    tables = [_whole(_collected(frame)) for frame in frames.values()]
    given = [one for one in tables if one.num_columns]
    try:
        return pa.concat_tables(given, promote_options="default") if given else pa.table({})
    except pa.ArrowException as error:
        problem = f"the frames of its partitions differ in their columns: {error}"
        raise WriteRefused(refused(table, scope, [problem], "Give them the same types.")) from error


def _collected(data: Any) -> Any:
    return data.collect() if _is_lazy(data) else data


def _whole(data: Any) -> pa.Table:
    rows = as_arrow(_from_rows(data) if _is_list_of_rows(data) else data)
    return rows.read_all() if isinstance(rows, pa.RecordBatchReader) else rows


def _is_list_of_rows(data: Any) -> bool:
    return (
        isinstance(data, Sequence) and not isinstance(data, str | bytes) and all(isinstance(r, Mapping) for r in data)
    )


def _from_rows(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A column for every key of any row, in the order in which they come; a row without the key has NULL there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    labels.refuse_names(names)
    return pa.table({str(name): _column(str(name), [row.get(name) for row in rows]) for name in names})


def _column(name: str, values: list[Any]) -> pa.Array:
    """The values of one name as Arrow has them. Raises WriteRefused where that would change one, or cannot be."""
    lost = objects.lost(values, nan_is_missing=False)
    try:
        if lost is None:
            return pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise WriteRefused(
            f"The rows have a column {name!r} that is not of one type: {error}. Nothing was changed; retrying does not "
            "help. Give every column one type; whole numbers of more than 64 bits as Decimal or text."
        ) from error
    raise WriteRefused(objects.refusal(name, lost))


def _is_lazy(data: Any) -> bool:
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(data, polars.LazyFrame)


def _has_no_columns(data: Any) -> bool:
    """Whether it is a frame without any column (and so without any row that could be stored)."""
    columns = getattr(data, "columns", None)
    names = getattr(getattr(data, "schema", None), "names", columns) if isinstance(data, _ARROW) else columns
    return names is not None and len(names) == 0 and not len(getattr(data, "index", ()))


_ARROW = (pa.Table, pa.RecordBatch, pa.RecordBatchReader)


def _without_columns(store: Store, table: Table, scope: Scope) -> pa.Table:
    """No rows, with the columns that the table has; for a table that is not there yet, with its partition column."""
    try:
        piece = store.read(table, scope)
        names = store.arrow(_nothing_of(piece)).column_names
    except ReadRefused:
        if table.contract_sql is not None:
            return _by_contract(table, scope)
        names = list(table.partition_columns) if scope.partitions[0].key is not None else []
    if not names:
        problem = "the frame has no columns, and there is no table yet that would say which"
        raise WriteRefused(refused(table, scope, [problem], "Give the frame its columns, also where it has no rows."))
    return pa.table({name: pa.nulls(0) for name in names})


def _by_contract(table: Table, scope: Scope) -> pa.Table:
    """No rows, with the columns of a table that its contract is about to make."""
    with closing(duckdb.connect()) as connection:
        made = SqlTable(connection, table)
        made.prepare(scope, ())
        return pa.table({column.name: pa.nulls(0) for column in made.columns()})


def _nothing_of(piece: Slice) -> Slice:
    return replace(piece, sql=f"SELECT * FROM ({piece.sql}) LIMIT 0", reads=())
