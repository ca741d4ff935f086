"""Rules: keys, NOT NULL and checks of a contract, judged by SQL where the catalog does not keep them itself.

Belongs here: compiling a contract in a DuckDB in memory, reading off what it says about rows, and looking which
incoming rows break it, in DuckDB's own words. A catalog that keeps them needs none of this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import duckdb

from etl_project.storage.contract import WriteRefused
from etl_project.storage.sql import quote, text
from etl_project.storage.tables.table import contract_statements, kind_of

_EXAMPLES = 3
_KEYS = ("PRIMARY KEY", "UNIQUE")
_NO_WORDS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_UNKEPT = re.compile(r"\bGENERATED\s+ALWAYS\b|\bCOLLATE\b", re.IGNORECASE)


class Key(NamedTuple):
    """Columns whose values no two rows share; `primary`: the primary key."""

    columns: tuple[str, ...]
    primary: bool


@dataclass(frozen=True)
class Rules:
    """What a contract says about the rows of one table. The primary key comes first."""

    required: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()
    checks: tuple[str, ...] = ()


class Made(NamedTuple):
    """A column of a table that a contract makes."""

    name: str
    type: Any
    required: bool
    default: str | None

    @property
    def definition(self) -> str:
        """The column as CREATE TABLE takes it."""
        default = "" if self.default is None else f" DEFAULT {self.default}"
        return f"{quote(self.name)} {self.type}{default}{' NOT NULL' if self.required else ''}"


class Compiled(NamedTuple):
    """What one CREATE TABLE makes, without its keys and checks."""

    schema: str
    name: str
    columns: tuple[Made, ...]


def compiled(statement: str, schema: str, asset: str) -> Compiled:
    """What the statement makes, as DuckDB understands it.

    Raises WriteRefused (retrying does not help) for columns that compute themselves or compare in a way of their own.
    """
    with _memory(schema) as connection:
        connection.execute(statement)
        [[there, name, sql]] = connection.execute("SELECT schema_name, table_name, sql FROM duckdb_tables()").fetchall()
        unkept = _UNKEPT.search(_NO_WORDS.sub(" ", sql))
        if unkept is not None:
            raise WriteRefused(
                f"Asset {asset!r}: its contract says {unkept[0]}, which this warehouse does not keep. Nothing was "
                "changed; retrying does not help. Leave it out, and compute such a column in the asset."
            )
        types = connection.sql(f"SELECT * FROM {quote(there)}.{quote(name)}").types
        found = connection.execute(
            "SELECT column_name, NOT is_nullable, column_default FROM duckdb_columns() WHERE table_name = ? "
            "AND schema_name = ? ORDER BY column_index",
            [name, there],
        ).fetchall()
        columns = [Made(n, kind, *rest) for (n, *rest), kind in zip(found, types, strict=True)]
        return Compiled(there, name, tuple(columns))


def of_contract(script: str, schema: str, name: str, asset: str) -> Rules | None:
    """What the script says about the rows of one table; None where it makes no such table."""
    with _memory(schema) as connection:
        for statement in contract_statements(connection, script, asset):
            if kind_of(statement) in ("TABLE", "SCHEMA"):
                connection.execute(statement)
        where = "lower(schema_name) = lower(?) AND lower(table_name) = lower(?)"
        columns = connection.execute(
            f"SELECT column_name FROM duckdb_columns() WHERE {where} AND NOT is_nullable ORDER BY column_index",
            [schema, name],
        ).fetchall()
        constraints = connection.execute(
            f"SELECT constraint_type, constraint_column_names, expression FROM duckdb_constraints() WHERE {where} "
            "ORDER BY constraint_type, constraint_index",
            [schema, name],
        ).fetchall()
        keys = [Key(tuple(names), kind == "PRIMARY KEY") for kind, names, _ in constraints if kind in _KEYS]
        return Rules(
            tuple(column for (column,) in columns),
            tuple(keys),
            tuple(expression for kind, _, expression in constraints if kind == "CHECK"),
        )


def broken(
    connection: duckdb.DuckDBPyConnection,
    held: Rules,
    table: str,
    rows: str,
    apart: frozenset[tuple[str, ...]],
    values: Mapping[str, Any],
) -> list[str]:
    """What the rows break, in words; `rows` is a query with all columns of the table, `values` are bound in it.

    The table holds none of the rows that they replace any more. Keys in `apart` cannot meet any other row of it.
    """
    return [
        *_failed(connection, held, table, rows, values),
        *(
            problem
            for key in held.keys
            for problem in _twice(connection, key, None if key.columns in apart else table, rows, values)
        ),
    ]


def _failed(
    connection: duckdb.DuckDBPyConnection, held: Rules, table: str, rows: str, values: Mapping[str, Any]
) -> Iterator[str]:
    """NOT NULL and checks, in one scan. A check whose answer is NULL is kept, as everywhere in SQL."""
    tests = {f"NOT NULL constraint failed: {table}.{name}": f"{quote(name)} IS NULL" for name in held.required}
    tests |= {
        f"CHECK constraint failed on table {table} with expression CHECK({expression})": f"NOT ({expression})"
        for expression in held.checks
    }
    if not tests:
        return
    counts = ", ".join(f"count(*) FILTER (WHERE {test})" for test in tests.values())
    [found] = connection.execute(f"SELECT {counts} FROM ({rows})", dict(values)).fetchall()
    for told, count in zip(tests, found, strict=True):
        if count:
            yield f"Constraint Error: {told}, in {count} rows"


def _twice(
    connection: duckdb.DuckDBPyConnection, key: Key, others: str | None, rows: str, values: Mapping[str, Any]
) -> Iterator[str]:
    """Keys that come twice, or that rows of other partitions have; a key with a NULL in it is like no other."""
    names = ", ".join(map(quote, key.columns))
    told = " || ', ' || ".join(f"{text(f'{name}: ')} || {quote(name)}::VARCHAR" for name in key.columns)
    known = " AND ".join(f"{quote(name)} IS NOT NULL" for name in key.columns)
    mine = f"SELECT {names} FROM ({rows}) WHERE {known}"
    query = f"SELECT {told} FROM ({mine}) GROUP BY {names} HAVING count(*) > 1"
    if others is not None:
        query = f"{query} UNION ALL SELECT DISTINCT {told} FROM ({mine}) SEMI JOIN {others} USING ({names})"
    kind = "primary key" if key.primary else "unique"
    for (found,) in connection.execute(f"{query} LIMIT {_EXAMPLES}", dict(values)).fetchall():
        yield f'Constraint Error: Duplicate key "{found}" violates {kind} constraint'


@contextmanager
def _memory(schema: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that exists for as long as the block lasts, where names without a schema are in this one."""
    with duckdb.connect() as connection:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
        connection.execute(f"SET schema = {quote(schema)}")
        yield connection
