"""Notes: what a copy has written into a table, kept beside it, so that a later copy knows its own rows again.

Belongs here: the table `etl_copies`. Rows are only added: the newest note of a table counts.
"""

from __future__ import annotations

from datetime import datetime

import duckdb

from etl_project.storage.sql import has_table, quote

NAME = "etl_copies"

_COLUMNS = """(
    asset VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    fingerprint VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    copied_at TIMESTAMP WITH TIME ZONE NOT NULL
)
"""


def last(connection: duckdb.DuckDBPyConnection, home: str, asset: str, table: str) -> str | None:
    """The fingerprint of what the newest copy of the table has written; None where none has."""
    if not has_table(connection, NAME, home):
        return None
    query = (
        f"SELECT fingerprint FROM {quote(home)}.{NAME} WHERE asset = ? AND table_name = ? "
        "ORDER BY copied_at DESC LIMIT 1"
    )
    found = connection.execute(query, [asset, table]).fetchall()
    return str(found[0][0]) if found else None


def add(
    connection: duckdb.DuckDBPyConnection,
    home: str,
    asset: str,
    table: str,
    fingerprint: str,
    source: str,
    at: datetime,
) -> None:
    """Note in the open transaction what it has written."""
    name = f"{quote(home)}.{NAME}"
    if not has_table(connection, NAME, home):
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} {_COLUMNS}")
    connection.execute(f"INSERT INTO {name} VALUES (?, ?, ?, ?, ?)", [asset, table, fingerprint, source, at])
