"""SQL text: identifiers quoted, values bound.

Belongs here: the two ways in which a name or a value may enter a statement. Nothing else in the storage layer puts
quotes around anything.
"""

from __future__ import annotations

import uuid
from typing import Any

import duckdb


def quote(name: str) -> str:
    """The name as an SQL identifier, whatever characters it holds."""
    if not name or "\0" in name:
        raise ValueError(f"{name!r} cannot be the name of a table or column")
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """The value as an SQL text literal: for column names inside expressions; data is bound, not written."""
    return "'" + value.replace("'", "''") + "'"


def has_table(connection: duckdb.DuckDBPyConnection, name: str, schema: str | None = None) -> bool:
    """Whether the current database has a table of this name, upper and lower case alike. A view is no table.

    Without a `schema` it is looked for in the connection's own.
    """
    query = (
        "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() "
        "AND lower(schema_name) = lower(coalesce(?, current_schema())) AND lower(table_name) = lower(?)"
    )
    return bool(connection.execute(query, [schema, name]).fetchall())


def unique(prefix: str) -> str:
    """A name that nobody else uses."""
    return f"{prefix}_{uuid.uuid4().hex[:16]}"


class Binds:
    """The values of one statement, under names that stay unique when statements are merged."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._prefix = unique("v")

    def add(self, value: Any) -> str:
        """Bind a value; gives the placeholder to write into the statement."""
        name = f"{self._prefix}_{len(self.values)}"
        self.values[name] = value
        return f"${name}"
