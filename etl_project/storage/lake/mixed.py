"""Mixed: files of one asset in which a column has several types, read without a value becoming another one.

Belongs here: the query over such files. There are some where two writers added the same column at the same time, and
where a restore has brought files of different times together; DuckDB alone would round the integers of the one file to
the floats of the other. Does not belong here: files that agree, which are nearly all (`parquet`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from etl_project.storage.contract import ReadRefused
from etl_project.storage.judging.drift import Column, always_fits, family
from etl_project.storage.lake.parquet import file_columns, parquet
from etl_project.storage.sql import Binds, quote, text

Types = Mapping[str, Any]
"""Columns by their names, with DuckDB's types."""


def agree(schemas: Sequence[pa.Schema]) -> bool:
    """Whether every column that several of these files have is of one type in all of them."""
    known: dict[str, pa.DataType] = {}
    return all(known.setdefault(field.name.lower(), field.type) == field.type for one in schemas for field in one)


def select(
    connection: duckdb.DuckDBPyConnection, files: Mapping[Path, pa.Schema], newest: Types, whom: str, binds: Binds
) -> tuple[str, dict[str, Any]]:
    """A query over all rows of these files, and the types of its columns: those of the newest file, where these hold
    all values, else what DuckDB makes of those that are there. A value that this would change ends the query.

    Raises ReadRefused (retrying does not help) for types whose values are never the same, as times with and without
    a zone.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Path]] = {}
    for path, schema in files.items():
        alike = tuple(sorted((field.name, str(field.type)) for field in schema))
        groups.setdefault(alike, []).append(path)
    columns = [file_columns(connection, paths[0]) for paths in groups.values()]
    types = dict(_types(connection, columns, newest))
    parts = (
        f"SELECT {', '.join(_as(connection, column, types, whom) for column in there)} "
        f"FROM {parquet([str(path) for path in paths], binds)}"
        for there, paths in zip(columns, groups.values(), strict=True)
    )
    return " UNION ALL BY NAME ".join(parts), types


def _types(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Sequence[Column]], newest: Types
) -> Iterator[tuple[str, Any]]:
    for name, wanted in newest.items():
        own = [column for there in files for column in there if column.name.lower() == name.lower()]
        if all(always_fits(column, wanted) for column in own):
            yield name, wanted
        else:
            every = " UNION ALL ".join(f"SELECT NULL::{column.type} AS v" for column in own)
            yield name, connection.sql(every).types[0]


def _as(connection: duckdb.DuckDBPyConnection, column: Column, types: Types, whom: str) -> str:
    """The column of a file as the type that it is read as."""
    name, wanted = next((name, kind) for name, kind in types.items() if name.lower() == column.name.lower())
    value, named = quote(column.name), f" AS {quote(name)}"
    if always_fits(column, wanted):
        return value + named
    said = f"{whom}: column {name!r} is {column.type} in some files and has to be read as {wanted} beside others"
    if family(column.type) != family(wanted) and family(wanted) != "text":
        raise ReadRefused(f"{said}, which would be other values. {_WAY_OUT}")
    there, back = f"TRY_CAST({value} AS {wanted})", str(column.type)
    try:
        connection.sql(f"SELECT CAST(CAST(NULL::{back} AS {wanted}) AS {back})")
    except duckdb.Error:  # STRUCTs with other fields: DuckDB takes them together, and knows no way back.
        return value + named
    told = text(f"{said}, which does not hold all of its values. {_WAY_OUT}")
    return f"CASE WHEN TRY_CAST({there} AS {back}) IS DISTINCT FROM {value} THEN error({told}) ELSE {there} END{named}"


_WAY_OUT = (
    "Retrying does not help. Read fewer partitions at once, or build those of the one kind again, with a column of "
    "the other's type."
)
