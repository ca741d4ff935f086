"""Inside a write: the database as it would be after COMMIT, for whoever looks before it.

Belongs here: an engine whose every connection is the one that writes, in its open transaction, and what keeps a reader
from ending that transaction or changing anything in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import duckdb
from duckdb import StatementType

from etl_project.storage.contract import Scope, Table, WriteRefused
from etl_project.storage.judging.messages import refused
from etl_project.storage.sql import quote, text
from etl_project.storage.tables.engine import Engine

_READS = {StatementType.SELECT, StatementType.PRAGMA, StatementType.CALL, StatementType.SET}
"""Not EXPLAIN, which runs what it explains with ANALYZE. What is SET is put back (`settings_of`)."""
_HARMLESS = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
    r"(?:CREATE\s+(?:OR\s+REPLACE\s+)?(?:LOCAL\s+)?TEMP(?:ORARY)?\b|EXPLAIN\s+(?!ANALY[SZ]E\b)\w)",
    re.IGNORECASE | re.DOTALL,
)
"""Temporary tables and views, and plans of what is not run."""
_FETCHES = ("fetch", "df", "pl", "arrow", "to_arrow", "torch", "tf", "description", "rowcount", "extract_statements")
"""How what is asked of the connection itself begins, where it only hands out what a statement has given."""


class ReadOnly:
    """A connection in the middle of a write, for reading: it takes queries and temporary tables, and cannot end it.

    What would begin a transaction, or close the connection, does nothing; what would end one or write is refused.
    A relation is the connection's own and can write where it likes, and so can a procedure that is called: once one was
    handed out the write `has_to_repeat` in a transaction that nobody looked into.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.has_to_repeat = False
        # A query may name a frame of the function that asks, which is not the one that calls DuckDB here.
        connection.execute("SET python_scan_all_frames = true")

    def __getattr__(self, name: str) -> Any:
        self.has_to_repeat = self.has_to_repeat or not name.startswith(_FETCHES)
        return getattr(self._connection, name)

    def __enter__(self) -> ReadOnly:
        """The same connection: who opened it is somebody else."""
        return self

    def __exit__(self, *_: object) -> None:
        """It stays open."""

    def execute(self, query: Any, *args: Any, **named: Any) -> ReadOnly:
        """Run statements that only read."""
        self._refuse_writing(query)
        self._connection.execute(query, *args, **named)
        return self

    def executemany(self, query: Any, *args: Any, **named: Any) -> ReadOnly:
        """Run a statement that only reads, for each of the values."""
        self._refuse_writing(query)
        self._connection.executemany(query, *args, **named)
        return self

    def sql(self, query: Any, *args: Any, **named: Any) -> Any:
        """A relation."""
        self._refuse_writing(query)
        self.has_to_repeat = True
        return self._connection.sql(query, *args, **named)

    query = sql
    from_query = sql

    def begin(self) -> ReadOnly:
        """Nothing: there is a transaction already."""
        return self

    def cursor(self) -> ReadOnly:
        """The same connection: another one would see what was committed before."""
        return self

    duplicate = cursor

    def close(self) -> None:
        """Nothing: the write goes on."""

    def append(self, *_args: Any, **_named: Any) -> None:
        """Refused."""
        raise _not_now("append")

    def commit(self) -> None:
        """Refused."""
        raise _not_now("COMMIT")

    def rollback(self) -> None:
        """Refused."""
        raise _not_now("ROLLBACK")

    def _refuse_writing(self, query: Any) -> None:
        statements = self._connection.extract_statements(query) if isinstance(query, str) else [query]
        for statement in statements:
            if statement.type not in _READS and not _HARMLESS.match(statement.query):
                raise _not_now(statement.query.strip().splitlines()[0])
            self.has_to_repeat = self.has_to_repeat or statement.type == StatementType.CALL


def _not_now(statement: str) -> WriteRefused:
    return WriteRefused(
        f"{statement!r} was refused: a check looks at rows that are not published yet, inside the transaction that "
        "would publish them, and may only read. Nothing was changed; retrying does not help."
    )


def settings_of(connection: duckdb.DuckDBPyConnection) -> dict[str, str | None]:
    """The settings of the connection that say what a value is and where a name is looked up, among others."""
    query = "SELECT name, value FROM duckdb_settings() WHERE name NOT LIKE '%memory%'"
    return dict(connection.execute(query).fetchall())


def put_back(connection: duckdb.DuckDBPyConnection, before: Mapping[str, str | None]) -> None:
    """Undo what a check has SET: the write goes on with its own settings."""
    for name, value in settings_of(connection).items():
        was = before.get(name)
        if was != value:
            connection.execute(f"RESET {quote(name)}" if was is None else f"SET {quote(name)} = {text(was)}")


def refuse_spoilt(connection: duckdb.DuckDBPyConnection, table: Table, scope: Scope) -> None:
    """Raise WriteRefused (retrying does not help) where a failed statement of a check has ended the transaction."""
    try:
        connection.execute("SELECT 1")
    except duckdb.Error as error:
        problem = f"a statement of one of its checks failed, and the transaction with it: {error}"
        raise WriteRefused(refused(table, scope, [problem], "Correct the check.")) from error


class Inside(Engine):
    """The database of another engine, seen from the transaction that is open on a connection."""

    def __init__(self, engine: Engine, connection: duckdb.DuckDBPyConnection) -> None:
        self._engine = engine
        self._connection = connection
        self._shown: Any = ReadOnly(connection)
        self.name, self.schema, self.keyed = engine.name, engine.schema, engine.keyed

    @property
    def has_to_repeat(self) -> bool:
        """Whether somebody may have written, unseen, into the transaction."""
        return bool(self._shown.has_to_repeat)

    @property
    def identity(self) -> str:
        """That of the database."""
        return self._engine.identity

    @contextmanager
    def writing(self, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """The connection; it takes no writes."""
        yield self._shown

    @contextmanager
    def looking(self, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """The connection."""
        yield self._shown

    def meaning(self, error: Exception) -> Exception:
        """What it means to the engine."""
        return self._engine.meaning(error)

    def table(self, connection: duckdb.DuckDBPyConnection, table: Any) -> Any:
        """The table as the engine sees it; it only reads, with the connection as it is."""
        return self._engine.table(self._connection, table)
