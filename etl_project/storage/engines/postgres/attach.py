"""Attach: a DuckDB connection in memory that has the PostgreSQL database as its current one.

Belongs here: the secret, ATTACH, statements in the server's own SQL, and what is refused of a server before anything
is read. The password is a DuckDB secret: in the attached path it would be seen in `duckdb_databases()` and in errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from etl_project.storage.contract import StoreUnavailable, WriteRefused
from etl_project.storage.engines.postgres.address import PostgresAddress
from etl_project.storage.engines.server import extensions
from etl_project.storage.scratch import scratch_folder
from etl_project.storage.sql import quote, text

CATALOG = "warehouse"
"""The name of the attached database."""
_SECRET = "etl_server"
_ASKED = (
    "SELECT current_setting('server_encoding') AS encoding, current_setting('lc_messages') AS language, "
    "to_regnamespace('public') IS NOT NULL AS has_home"
)
_READABLE = ("", "C", "POSIX", "C.UTF-8", "C.UTF8")


@contextmanager
def opened(
    address: PostgresAddress, settings: Mapping[str, str | int], beside: Path
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with extension and secret, in UTC, to which the database is not yet attached.

    What does not fit into memory goes into a folder of its own in `beside`, which is gone with the block.
    Raises ExtraMissing (retrying does not help) where the extension is not installed.
    """
    # The packages are checked by whoever installs them. DuckDB would hash 20 MB of them for each connection.
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true", "custom_user_agent": "dagster"})
    try:
        extensions.load(connection, extensions.POSTGRES)
        connection.execute("SET TimeZone = 'UTC'")
        for name, value in settings.items():
            connection.execute(f"SET {quote(name)} = ?", [value])
        _keep_secret(connection, address)
        with scratch_folder(beside) as scratch:
            connection.execute("SET temp_directory = ?", [str(scratch)])
            yield connection
            connection.close()
    finally:
        connection.close()


def attach(
    connection: duckdb.DuckDBPyConnection, address: PostgresAddress, wait_seconds: float, *, read_only: bool
) -> None:
    """Attach the database and make it the current one.

    Raises duckdb.Error as DuckDB says it, WriteRefused (retrying does not help) for a server that would be misread.
    """
    options = f"TYPE postgres, SECRET {_SECRET}{', READ_ONLY' if read_only else ''}"
    connection.execute(f"ATTACH {text(address.session(wait_seconds))} AS {CATALOG} ({options})")
    [[encoding, language, has_home]] = ask(connection, _ASKED)
    problem = None
    if encoding != "UTF8":
        problem = f"its encoding is {encoding}, and text would be changed: make a database WITH ENCODING 'UTF8'"
    elif language not in _READABLE and not str(language).startswith("en"):
        problem = (
            f"it tells of errors in {language}, and a conflict is told by its words: a superuser may say "
            "ALTER DATABASE ... SET lc_messages = 'C'"
        )
    elif not has_home:
        problem = "it has no schema `public`, where the commit records lie: CREATE SCHEMA public"
    if problem:
        raise WriteRefused(f"{address.shown}: {problem}. Nothing was changed; retrying does not help.")
    connection.execute(f"USE {CATALOG}.public")


def detach(connection: duckdb.DuckDBPyConnection) -> None:
    """Let go of the database with all connections to the server; what else the connection holds stays."""
    connection.execute("USE memory")
    connection.execute(f"DETACH DATABASE IF EXISTS {CATALOG}")


def run(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Run a statement in the server's own SQL, inside the open transaction."""
    connection.execute(f"CALL postgres_execute('{CATALOG}', {text(statement)})")


def ask(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query in the server's own SQL, inside the open transaction."""
    return connection.execute(f"FROM postgres_query('{CATALOG}', {text(query)})").fetchall()


def _keep_secret(connection: duckdb.DuckDBPyConnection, address: PostgresAddress) -> None:
    password = "" if address.password is None else f", PASSWORD {text(address.password)}"
    try:
        connection.execute(f"CREATE SECRET {_SECRET} (TYPE postgres{password})")
    except duckdb.Error:
        # DuckDB would quote the statement.
        raise StoreUnavailable(
            f"{address.shown}: DuckDB does not take the password. Nothing was changed; retrying helps once it is right."
        ) from None
