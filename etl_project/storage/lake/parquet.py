"""Parquet files as DuckDB reads them: paths taken literally, the columns of a file, a scratch database.

Belongs here: what both reading and writing files need from DuckDB. Where files lie is `lake`'s.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from etl_project.storage.contract import WriteRefused
from etl_project.storage.interrupted import ended_at_once
from etl_project.storage.judging.drift import Column
from etl_project.storage.scratch import scratch_folder
from etl_project.storage.sql import Binds, quote, text


def parquet(files: Sequence[str], binds: Binds) -> str:
    """A table function over exactly these files, whatever characters their names hold."""
    return f"read_parquet({binds.add([escaped(Path(f)) for f in files])}, union_by_name=true, hive_partitioning=false)"


def escaped(path: Path) -> str:
    """The path as a pattern that matches only itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path))


def file_columns(connection: duckdb.DuckDBPyConnection, path: Path) -> list[Column]:
    """The columns of a file with the types that DuckDB reads them as."""
    relation = connection.sql(f"SELECT * FROM read_parquet([{text(escaped(path))}], hive_partitioning=false)")
    return [Column(name, kind) for name, kind in zip(relation.columns, relation.types, strict=True)]


def as_stored(columns: Sequence[Column], beside: Path) -> list[Column]:
    """The columns with the types that they have once they were written to a file and read again.

    Raises WriteRefused (retrying does not help), by their names, for those whose type Parquet does not have.
    """
    if not columns:
        return []
    with in_memory(beside) as connection, scratch_folder(beside) as folder:
        path = folder / "types.parquet"
        try:
            _write_none(connection, columns, path)
        except pa.ArrowNotImplementedError:
            _refuse_homeless(connection, columns, path)
            raise
        types = {c.name: c.type for c in file_columns(connection, path)}
    return [column._replace(type=types[column.name]) for column in columns]


def _write_none(connection: duckdb.DuckDBPyConnection, columns: Sequence[Column], path: Path) -> None:
    """A file without rows."""
    select = ", ".join(f"NULL::{_writable(c)} AS {quote(c.name)}" for c in columns)
    pq.write_table(pa.table(connection.sql(f"SELECT {select} WHERE false")), path)


def _refuse_homeless(connection: duckdb.DuckDBPyConnection, columns: Sequence[Column], path: Path) -> None:
    found = []
    for column in columns:
        try:
            _write_none(connection, [column], path)
        except pa.ArrowNotImplementedError:
            found.append(f"column {column.name!r} is {column.type}")
    if found:
        raise WriteRefused(
            f"Parquet has no such type: {', '.join(found)}. Nothing was changed; retrying does not help. Store a "
            "span of time as a number of seconds, and others as text or as columns of their own."
        )


def _writable(column: Column) -> str:
    return "VARCHAR" if column.type.id in ("enum", "uuid") else str(column.type)


@contextmanager
def in_memory(beside: Path, memory_limit_mb: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of our own, which keeps what exceeds its memory (805 MB, 268 a core) in a scratch folder `beside`."""
    limit = f"{memory_limit_mb}MB" if memory_limit_mb else f"{max(768, 256 * (os.cpu_count() or 1))}MiB"
    with scratch_folder(beside) as folder, closing(duckdb.connect()) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET temp_directory = {text(str(folder))}")
        connection.execute(f"SET memory_limit = '{limit}'")
        with ended_at_once(connection):
            yield connection
