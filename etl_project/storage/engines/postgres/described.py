"""Described: what only the server knows of a table: its keys, indexes, comments and defaults.

Belongs here: reading PostgreSQL's catalog and saying it in DuckDB's words; what has none (triggers, policies, checks in
the server's own words) is named.
"""

from __future__ import annotations

import re

import duckdb

from etl_project.storage.engines.postgres import attach
from etl_project.storage.engines.postgres.homes import server_words
from etl_project.storage.sql import quote, text
from etl_project.storage.tables.shape import Attribute, Index, Known, Shape
from etl_project.storage.tables.table import SqlTable

_PLAIN = re.compile(r"(?P<value>'(?:[^']|'')*'|-?\d+(?:\.\d+)?|true|false)(?:::[\w ]+(?:\(\d+(?:,\d+)?\))?)?")
_ALIKE = {"now()": "now()", "current_timestamp": "now()", "current_date": "current_date"}
_KINDS = {"c": "check", "f": "foreign key", "x": "exclusion constraint"}


def known(connection: duckdb.DuckDBPyConnection, there: SqlTable, found: Shape) -> Known:
    """The table as the server has it; `found` is what DuckDB sees of it."""
    table = (
        "(SELECT pg_class.oid FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
        f"WHERE lower(nspname) = lower({text(there.schema)}) AND lower(relname) = lower({text(there.table.name)}))"
    )
    columns, defaults_unsaid, types = _columns(connection, table, found)
    keys, named = _constraints(connection, table)
    indexes, special = _indexes(connection, table)
    [[comment]] = attach.ask(connection, f"SELECT obj_description({table}, 'pg_class') AS comment")
    unsaid = (*types, *named, *special, *_others(connection, table))
    return Known(Shape(columns, (), keys, comment, indexes), unsaid, defaults_unsaid)


def _columns(
    connection: duckdb.DuckDBPyConnection, table: str, found: Shape
) -> tuple[tuple[Attribute, ...], dict[str, str], list[str]]:
    asked = attach.ask(
        connection,
        "SELECT attname::text, format_type(atttypid, atttypmod) AS kind, attnotnull, "
        "pg_get_expr(adbin, adrelid) AS filled, attidentity::text AS number, "
        "attgenerated::text AS computed, col_description(attrelid, attnum) AS comment FROM pg_attribute "
        f"LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = {table} AND attnum > 0 "
        "AND NOT attisdropped",
    )
    server = {name: rest for name, *rest in asked}
    unsaid: dict[str, str] = {}
    types = []
    columns = []
    for column in found.columns:
        kind, required, expression, number, computed, comment = server[column.name]
        if kind not in server_words(column.type):
            types.append(f"the type {kind} of column {column.name} ({column.type} is made of it)")
        default = None if computed else _default(expression)
        if (expression is not None and default is None) or number:
            unsaid[column.name] = f"what fills column {column.name} ({expression or 'a number of its own'})"
        columns.append(column._replace(required=bool(required), default=default, comment=comment))
    return tuple(columns), unsaid, types


def _default(expression: str | None) -> str | None:
    if expression is None:
        return None
    plain = _PLAIN.fullmatch(expression)
    return plain["value"] if plain else _ALIKE.get(expression.lower())


def _constraints(
    connection: duckdb.DuckDBPyConnection, table: str
) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], list[str]]:
    found = attach.ask(
        connection,
        "SELECT contype::text AS kind, conname::text, ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY "
        "AS k(n, at) JOIN pg_attribute ON attrelid = conrelid AND attnum = n ORDER BY at) AS columns "
        f"FROM pg_constraint WHERE conrelid = {table} ORDER BY contype <> 'p', conname",
    )
    words = {"p": "PRIMARY KEY", "u": "UNIQUE"}
    keys = tuple((words[kind], tuple(columns)) for kind, _, columns in found if kind in words)
    return keys, [f"{_KINDS[kind]} {name}" for kind, name, _ in found if kind in _KINDS]


def _indexes(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[tuple[Index, ...], list[str]]:
    """Indexes on plain columns; one with an expression, a condition or another method is named alone."""
    found = attach.ask(
        connection,
        "SELECT relname::text, indisunique, indexprs IS NULL AND indpred IS NULL AND amname = 'btree' AS plain, "
        "ARRAY(SELECT attname::text FROM unnest(indkey) WITH ORDINALITY AS k(n, at) JOIN pg_attribute "
        "ON attrelid = indrelid AND attnum = n WHERE at <= indnkeyatts ORDER BY at) AS columns FROM pg_index "
        f"JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam WHERE indrelid = {table} "
        "AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid) ORDER BY relname",
    )
    plain = [
        Index(name, f"CREATE {'UNIQUE ' if unique else ''}INDEX {quote(name)} ON t ({', '.join(map(quote, columns))})")
        for name, unique, is_plain, columns in found
        if is_plain
    ]
    return tuple(plain), [f"index {name}" for name, _, is_plain, _ in found if not is_plain]


def _others(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """Triggers, policies, partitions and rights that somebody has set up in the server."""
    found = attach.ask(
        connection,
        f"SELECT 'trigger ' || tgname AS what FROM pg_trigger WHERE tgrelid = {table} AND NOT tgisinternal "
        f"UNION ALL SELECT 'policy ' || polname FROM pg_policy WHERE polrelid = {table} "
        f"UNION ALL SELECT 'partition ' || inhrelid::regclass::text FROM pg_inherits WHERE inhparent = {table} "
        "UNION ALL SELECT DISTINCT 'rights of ' || coalesce(nullif(grantee, 0)::regrole::text, 'everybody') "
        f"FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = {table} AND grantee <> relowner ORDER BY 1",
    )
    return [what for (what,) in found]
