"""Delivered: rows as the type that an asset's parameter is annotated with.

Belongs here: what an annotation asks for, and the conversions from a store's slice to pandas, pyarrow, polars, DuckDB,
plain Python or the slice itself. Values leave as they are stored.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import dagster as dg
import duckdb
import pandas as pd
import pyarrow as pa

from etl_project.storage import recorded
from etl_project.storage.contract import Commit, ReadRefused, Receipt, Scope, Slice, Table
from etl_project.storage.dagster import own_rows
from etl_project.storage.fetch import arrow_table
from etl_project.storage.recorded import Dtypes

FORMS = (
    "pandas.DataFrame, pyarrow.Table, pyarrow.RecordBatch, pyarrow.RecordBatchReader, polars.DataFrame, "
    "polars.LazyFrame, duckdb.DuckDBPyRelation, list[dict] or Slice; or Optional[...] or dict[str, ...] of one of them"
)


class Readable(Protocol):
    """What of a store reading takes: a store itself, or one as it was."""

    def read(self, table: Table, scope: Scope, columns: Sequence[str] | None = None) -> Slice: ...
    def arrow(self, piece: Slice) -> pa.Table: ...
    def batches(self, piece: Slice) -> AbstractContextManager[pa.RecordBatchReader]: ...
    def last_commits(self, assets: Iterable[str] | None = None) -> Mapping[tuple[str, str | None], Commit]: ...


@dataclass(frozen=True)
class Wanted:
    """What an annotation asks for: the type of the rows, whether they may be missing, whether a frame a partition."""

    kind: Any
    optional: bool = False
    by_partition: bool = False
    dtypes: Dtypes = "recorded"

    @classmethod
    def of(cls, annotation: Any) -> Wanted:
        """Take `Optional[...]` and `dict[str, ...]` apart, in this order."""
        inner = [one for one in typing.get_args(annotation) if one is not type(None)]
        if typing.get_origin(annotation) in (typing.Union, types.UnionType) and len(inner) == 1:
            return replace(cls.of(inner[0]), optional=True)
        if typing.get_origin(annotation) in (dict, Mapping) and inner[:1] == [str] and inner[1:] != [Any]:
            each = cls.of(inner[1])
            return cls(inner[1], by_partition=True) if each.by_partition else replace(each, by_partition=True)
        return cls(annotation)


def annotation_of(context: dg.InputContext) -> Any:
    """What the parameter is annotated with; None where nobody said."""
    try:
        return context.dagster_type.typing_type
    except dg.DagsterInvariantViolationError:
        return None


def read(
    store: Readable, table: Table, scope: Scope, columns: Sequence[str] | None, wanted: Wanted
) -> tuple[Sequence[Receipt], Any]:
    """What was read and the rows as they are wanted; None where none of the partitions exists, if that is wanted.

    Raises ReadRefused and InputMissing (retrying does not help), InputChanged and StoreBusy (it does).
    """
    if wanted.by_partition:
        parts = {
            str(p.key): read(store, table, Scope((p,)), columns, replace(wanted, by_partition=False))
            for p in scope.partitions
        }
        return [r for reads, _ in parts.values() for r in reads], {key: rows for key, (_, rows) in parts.items()}
    try:
        piece = store.read(table, scope, columns)
    except ReadRefused:
        if not scope.partitions:
            return (), of_no_table(table, wanted)
        if wanted.optional and not store.last_commits([table.asset]):
            return (), None
        raise
    if wanted.optional and all(read.fingerprint is None for read in piece.reads):
        return piece.reads, None
    return piece.reads, as_annotated(store, piece, wanted.kind, wanted.dtypes, as_asked=columns is not None)


def of_no_table(table: Table, wanted: Wanted) -> Any:
    """No rows of a table that is not there yet, as they are wanted."""
    piece = own_rows.no_rows(table)
    if wanted.kind is Slice:
        return piece
    with duckdb.connect() as connection:
        rows = arrow_table(connection.execute(piece.sql))
    return _conversion(wanted.kind, None, wanted.dtypes)(rows)


def as_annotated(
    store: Readable, piece: Slice, annotation: Any, dtypes: Dtypes = "recorded", *, as_asked: bool = False
) -> Any:
    """The slice as `annotation` asks for; pandas, with these `dtypes`, where it asks for nothing. `as_asked`: with the
    columns of the slice and in their order, not with those that the rows had as a frame.

    Raises ReadRefused for a type that rows cannot take (retrying does not help).
    """
    if annotation is Slice:
        return piece
    if annotation is pa.RecordBatchReader:
        return _stream(store, piece)
    convert = _conversion(annotation, piece.frame, dtypes, as_asked)
    return convert(store.arrow(piece))


def _conversion(
    annotation: Any, frame: bytes | None, dtypes: Dtypes, as_asked: bool = False
) -> Callable[[pa.Table], Any]:
    """What makes the wanted type of a table. Raises ReadRefused for types that rows cannot take."""
    as_pandas, as_polars = partial(_pandas, frame, dtypes, as_asked), partial(_polars, frame, as_asked)
    if annotation in (Any, None, type(None)):
        return as_pandas
    inner = typing.get_args(annotation)
    if typing.get_origin(annotation) is list and (typing.get_origin(inner[0]) or inner[0]) is dict:
        return lambda rows: rows.to_pylist()
    origin = typing.get_origin(annotation) or annotation
    polars = sys.modules.get("polars")
    known: dict[Any, Callable[[pa.Table], Any]] = {
        pa.Table: lambda rows: rows,
        pa.RecordBatch: _batch,
        pa.RecordBatchReader: lambda rows: rows.to_reader(),
        duckdb.DuckDBPyRelation: _relation,
        pd.DataFrame: as_pandas,
        **({polars.DataFrame: as_polars, polars.LazyFrame: lambda rows: as_polars(rows).lazy()} if polars else {}),
    }
    if isinstance(origin, type) and origin in known:
        return known[origin]
    if isinstance(origin, type) and issubclass(origin, pd.DataFrame):
        subclass: Callable[[Any], Any] = origin
        return lambda rows: subclass(as_pandas(rows))
    raise ReadRefused(
        f"An input annotated {annotation!r} cannot be loaded. Retrying does not help. Annotate it {FORMS}."
    )


def _pandas(frame: bytes | None, dtypes: Dtypes, as_asked: bool, rows: pa.Table) -> pd.DataFrame:
    made = recorded.to_pandas(rows, frame, dtypes)
    return made[rows.column_names] if as_asked else made


def _polars(frame: bytes | None, as_asked: bool, rows: pa.Table) -> Any:
    made = recorded.to_polars(rows, frame)
    return made.select(rows.column_names) if as_asked else made


def _batch(rows: pa.Table) -> pa.RecordBatch:
    batches = rows.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=rows.schema)


def _relation(rows: pa.Table) -> duckdb.DuckDBPyRelation:
    """A relation over the rows in memory, in a database of its own that lives as long as the relation."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection.from_arrow(rows)


def _stream(store: Readable, piece: Slice) -> pa.RecordBatchReader:
    """A reader that holds its store open until it is read to its end or dropped."""
    stack = ExitStack()
    reader = stack.enter_context(store.batches(piece))

    def batches() -> Iterator[pa.RecordBatch]:
        with stack:
            yield from reader

    return pa.RecordBatchReader.from_batches(reader.schema, batches())
