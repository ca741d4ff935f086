"""The table of an asset in PostgreSQL: what DuckDB's SQL does not reach there, in the server's own.

Belongs here: types and their homes, making the table of a contract, deleting, widening, and names. The contract is
compiled by DuckDB itself, in a database in memory, so that it means here what it means in a DuckDB file: the server
keeps its keys and NOT NULL, its checks are judged by our writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import duckdb

from etl_project.storage.contract import Scope, WriteRefused
from etl_project.storage.engines.postgres import attach
from etl_project.storage.engines.postgres.homes import home_of, server_name, widened
from etl_project.storage.judging.drift import Column
from etl_project.storage.judging.messages import refused
from etl_project.storage.sql import quote, text
from etl_project.storage.tables import rules
from etl_project.storage.tables.judged import JudgedTable
from etl_project.storage.tables.table import COMMENT_ON, kind_of

LONGEST_BYTES = 63
"""The server cuts longer names off, so that two could become one."""
_BIND = re.compile(r"\$(\w+)")
_KEPT_DEFAULT = re.compile(
    r"(?:-?\d+(?:\.\d+)?|'(?:[^']|'')*'|CAST\('(?:[^']|'')*' AS [\w ]+\)|NULL|true|false"
    r"|now\(\)|get_current_timestamp\(\)|current_timestamp(?:\(\))?|current_date(?:\(\))?)",
    re.IGNORECASE,
)
"""Defaults that are the same in both dialects."""
_SAID_OTHERWISE = {"get_current_timestamp()": "now()"}


class PostgresTable(JudgedTable):
    """One asset's table, seen from inside a transaction."""

    alters_values = True

    def broken_when_stored(self, where: str, values: Mapping[str, Any]) -> list[str]:
        """The checks of the contract that these rows do not keep; the server keeps keys and NOT NULL."""
        checks = replace(self.contract_rules(), required=(), keys=())
        if not checks.checks:
            return []
        return rules.broken(self._connection, checks, self.name, f"FROM {self.name} {where}", frozenset(), values)

    def prepare(self, scope: Scope, incoming: Sequence[Column]) -> list[str]:
        """Make sure that the table and its partition column exist; says what was changed for it."""
        self._refuse_long_names(scope, [self.schema, self.table.name, *(column.name for column in incoming)])
        changes = super().prepare(scope, incoming)
        self._refuse_children(scope)
        return changes

    def settle(self) -> None:
        """Constraints that are deferred, too: a key that is broken at COMMIT looks like another writer's."""
        attach.run(self._connection, "SET CONSTRAINTS ALL IMMEDIATE")

    def home_of(self, column: Column) -> str:
        """As for data that comes in."""
        return self._stored_type(column)

    def delete(self, condition: str, values: Mapping[str, Any]) -> None:
        """Delete the rows for which the condition is true, in the server: DuckDB would name each row by its place,
        which several partitions of a table have alike."""
        # A column may be called like this, too.
        said = _BIND.sub(lambda at: self._literal(values[at[1]]) if at[1] in values else at[0], condition)
        attach.run(self._connection, f"DELETE FROM {self._in_server()} WHERE {said}")

    def widen(self, column: Column, kind: str) -> str:
        """Alter the column to a type that holds every old value; says so. Raises WriteRefused where that fails."""
        home = widened(kind)
        self._columns = None
        statement = f"ALTER TABLE {self._in_server()} ALTER COLUMN {quote(column.name)} TYPE {server_name(home)}"
        try:
            attach.run(self._connection, statement)
        except duckdb.Error as error:
            if "cannot alter type" not in str(error):
                raise
            raise WriteRefused(
                f"Asset {self.table.asset!r}: column {column.name!r} has to be widened from {column.type} to {home}, "
                "and a view or a rule uses it. Nothing was changed; retrying does not help. Alter the table by hand, "
                "or deliver values that fit."
            ) from error
        self._connection.execute("CALL pg_clear_cache()")
        return f"column {column.name!r} widened from {column.type} to {home}"

    def _stored_type(self, column: Column) -> str:
        home = home_of(column.type)
        if home is None:
            raise WriteRefused(
                f"Asset {self.table.asset!r}: column {column.name!r} is {column.type}, which no type of PostgreSQL "
                "holds exactly. Nothing was changed; retrying does not help. Return it as columns of their own, or as "
                "JSON text."
            )
        return home

    def _look_up_columns(self) -> list[Column]:
        """DuckDB does not see which columns the server fills: by a default, a number, or a computation.

        Nor by which collation it compares text: one that takes two values for the same would delete rows of the other.
        """
        query = (
            "SELECT attname, atthasdef OR attidentity <> '' AS filled, NOT collisdeterministic AS loose "
            "FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
            "JOIN pg_namespace ON pg_namespace.oid = relnamespace "
            "LEFT JOIN pg_collation ON pg_collation.oid = attcollation WHERE attnum > 0 AND NOT attisdropped "
            f"AND lower(nspname) = lower({text(self.schema)}) AND lower(relname) = lower({text(self.table.name)})"
        )
        found = attach.ask(self._connection, query)
        by = {name.lower() for name in self.table.partition_columns}
        if alike := [name for name, _, loose in found if loose and name.lower() in by]:
            raise WriteRefused(
                f"Asset {self.table.asset!r}: the collation of column {alike[0]!r} takes different texts for the same, "
                "and the column says which partition a row belongs to. Nothing was changed; retrying does not help. "
                "Give the column a deterministic collation."
            )
        own = {name for name, filled, _ in found if filled}
        return [c._replace(filled=True) if c.name in own else c for c in super()._look_up_columns()]

    def _run_of_contract(self, statement: str) -> None:
        kind = kind_of(statement)
        if kind in ("VIEW", "SEQUENCE", "TYPE"):
            raise WriteRefused(
                f"Asset {self.table.asset!r}: its contract has a {kind}, in the words of DuckDB, which PostgreSQL may "
                "read otherwise. Nothing was changed; retrying does not help. Make it in the server itself; a table "
                "that is there is written as it is."
            )
        if kind is None:
            self._comment(statement)
        else:
            self._connection.execute(self._in_homes(statement) if kind == "TABLE" else statement)

    def _comment(self, statement: str) -> None:
        found = COMMENT_ON.match(statement)
        if found is None:
            raise WriteRefused(
                f"Asset {self.table.asset!r}: only tables and columns have comments in a contract for PostgreSQL, not "
                f"{statement.splitlines()[0]!r}. Nothing was changed; retrying does not help."
            )
        parts = found["name"].count(".") + 1
        qualified = parts > (1 if found["kind"].upper() == "TABLE" else 2)
        name = found["name"] if qualified else f"{quote(self.schema)}.{found['name']}"
        attach.run(
            self._connection, f"{statement[: found.start('name')]}{name}{statement[found.end() :]}".rstrip("; \n")
        )

    def _in_homes(self, statement: str) -> str:
        """The table with the homes of its types and with its keys."""
        made = rules.compiled(statement, self.schema, self.table.asset)
        held = rules.of_contract(statement, self.schema, made.name, self.table.asset) or rules.Rules()
        self._refuse_long_names(Scope.whole(), [made.name, *(column.name for column in made.columns)])
        definitions = []
        for column in made.columns:
            default = self._default(column)
            home = self._stored_type(Column(column.name, column.type))
            definitions.append(f"{quote(column.name)} {home}{default}{' NOT NULL' if column.required else ''}")
        for key in held.keys:
            names = ", ".join(map(quote, key.columns))
            definitions.append(f"{'PRIMARY KEY' if key.primary else 'UNIQUE'} ({names})")
        return f"CREATE TABLE IF NOT EXISTS {quote(made.schema)}.{quote(made.name)} ({', '.join(definitions)})"

    def _default(self, column: rules.Made) -> str:
        if column.default is None:
            return ""
        if not _KEPT_DEFAULT.fullmatch(column.default):
            raise WriteRefused(
                f"Asset {self.table.asset!r}: column {column.name!r} has the default {column.default}, which "
                "PostgreSQL may compute otherwise than DuckDB. Nothing was changed; retrying does not help. Give it a "
                "plain value, or compute the column in the asset."
            )
        return f" DEFAULT {_SAID_OTHERWISE.get(column.default.lower(), column.default)}"

    def _in_server(self) -> str:
        """The table's name as the server spells it: there, upper and lower case differ."""
        query = (
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() "
            "AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?)"
        )
        found = self._connection.execute(query, [self.schema, self.table.name]).fetchall()
        if len(found) != 1:
            raise WriteRefused(
                f"Asset {self.table.asset!r}: there are {len(found)} tables {self.schema}.{self.table.name} that "
                "differ by upper and lower case. Nothing was changed; retrying does not help. Rename all but one."
            )
        return ".".join(map(quote, found[0]))

    def _refuse_children(self, scope: Scope) -> None:
        """Tables that inherit are written by somebody else, and a DELETE here takes their rows: into this table."""
        query = (
            "SELECT child.oid::regclass::text AS child FROM pg_inherits "
            "JOIN pg_class AS child ON child.oid = inhrelid JOIN pg_class AS parent ON parent.oid = inhparent "
            "JOIN pg_namespace ON pg_namespace.oid = parent.relnamespace WHERE NOT child.relispartition "
            f"AND lower(nspname) = lower({text(self.schema)}) "
            f"AND lower(parent.relname) = lower({text(self.table.name)}) ORDER BY 1"
        )
        children = [name for (name,) in attach.ask(self._connection, query)]
        if children:
            problem = (
                f"other tables inherit from it ({', '.join(children)}), and their rows would be deleted with its own"
            )
            advice = (
                "Partition the table (PARTITION BY), or end it: ALTER TABLE ... NO INHERIT ... A hypertable of "
                "TimescaleDB consists of such children (_timescaledb_internal): make it a plain table again."
            )
            raise WriteRefused(refused(self.table, scope, [problem], advice))

    def _refuse_long_names(self, scope: Scope, names: Sequence[str]) -> None:
        long = [name for name in names if len(name.encode()) > LONGEST_BYTES]
        if long:
            problem = f"names of more than {LONGEST_BYTES} bytes, which PostgreSQL cuts off: {', '.join(long)}"
            raise WriteRefused(refused(self.table, scope, [problem], "Give shorter names."))

    def _literal(self, value: Any) -> str:
        """A value of a condition as the server writes it."""
        if isinstance(value, list):
            return f"ARRAY[{', '.join(map(self._literal, value))}]::text[]"
        if isinstance(value, datetime):
            kind = "timestamp" if value.tzinfo is None else "timestamptz"
            return f"{kind} '{value.isoformat(sep=' ')}'"
        if isinstance(value, date):
            return f"date '{value.isoformat()}'"
        if not isinstance(value, str) or "\0" in value:
            raise WriteRefused(
                f"Asset {self.table.asset!r}: the partition key {value!r} cannot be a value in PostgreSQL. Nothing was "
                "changed; retrying does not help."
            )
        return text(value)
