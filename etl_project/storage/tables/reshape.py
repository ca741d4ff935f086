"""Reshape: a table becomes what its contract says, inside the caller's transaction.

Belongs here: the statements, in an order that every engine takes. What differs is told by `shape`, what rows become by
`conversion`; what the commit records say of it is the caller's. A kill leaves what the last COMMIT left: the old table.

The new table is made by its contract beside the old one, filled from it, and takes its name. So nothing depends on
which ALTER an engine takes for a column that a key, a check or an index uses. Views name their tables and live on;
indexes, comments and columns that only the table has are made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb

from etl_project import faults
from etl_project.storage.contract import Scope, Table
from etl_project.storage.sql import quote, text, unique
from etl_project.storage.tables import owners
from etl_project.storage.tables.conversion import Conversion
from etl_project.storage.tables.shape import Attribute, Difference, Shape, Wishes
from etl_project.storage.tables.table import SqlTable

ASIDE = "Rows that had no place when the contract of {table} was applied; dropped when their partitions are built again"
"""The comment by which a table of rows that were set aside is known."""

_IN_PLACE = {"comment", "index added", "kept", "added"}


class Reshape:
    """The change of one table, seen from inside a transaction."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        target: SqlTable,
        have: Shape,
        want: Shape,
        wishes: Wishes,
    ) -> None:
        self._connection = connection
        self._table = table
        self._target = target
        self._have = have
        self._want = want
        self.conversion = Conversion(connection, table, have, want, wishes)

    def run(self, found: Sequence[Difference], home: str) -> str | None:
        """Make the change. Rows without a place are set aside: the name of their table, where there are any."""
        if all(one.kind in _IN_PLACE for one in found) and not self._adds_required(found):
            self._alter(found)
            return None
        old = unique("etl_old")
        for index in self._have.indexes:
            self._run(f"DROP INDEX {quote(self._target.schema)}.{quote(index.name)}")
        self._run(f"ALTER TABLE {self._target.name} RENAME TO {quote(old)}")
        faults.reach("contract.renamed")
        was = f"{quote(self._target.schema)}.{quote(old)}"
        self._target.prepare(Scope.whole(), ())
        for column in self.conversion.kept:
            self._add(column)
        out = " OR ".join(f"({condition})" for _, condition in self.conversion.conditions(was))
        aside = self._set_aside(was, out) if out else None
        where = f"WHERE ({out}) IS NOT TRUE" if aside is not None else ""
        into = f"INSERT INTO {self._target.name} ({self.conversion.names()})"
        self._run(f"{into} {self.conversion.select(was, where)}")
        faults.reach("contract.filled")
        self._run(f"DROP TABLE {was}")
        self._make_indexes()
        self._comment()
        owners.forget_frame(self._connection, self._target.schema, self._table.name, home)
        faults.reach("contract.reshaped")
        return aside

    def _adds_required(self, found: Sequence[Difference]) -> bool:
        columns = self._want.by_name
        return any(one.kind == "added" and columns[str(one.column).lower()].required for one in found)

    def _alter(self, found: Sequence[Difference]) -> None:
        columns, there = self._want.by_name, {index.name.lower() for index in self._have.indexes}
        for one in found:
            if one.kind == "added":
                self._add(columns[str(one.column).lower()])
        for index in self._want.indexes:
            if index.name.lower() not in there:
                self._run(self._placed(index.sql))
        self._comment()
        faults.reach("contract.reshaped")

    def _add(self, column: Attribute) -> None:
        default = "" if column.default is None else f" DEFAULT {column.default}"
        self._run(f"ALTER TABLE {self._target.name} ADD COLUMN {quote(column.name)} {column.type}{default}")

    def _set_aside(self, was: str, out: str) -> str | None:
        [[rows]] = self._connection.execute(f"SELECT count(*) FROM {was} WHERE {out}").fetchall()
        if not rows:
            return None
        taken = {name.lower() for name, _ in tables_aside(self._connection, self._target.schema)}
        names = (f"{self._table.name}_set_aside{'' if n == 1 else f'_{n}'}" for n in range(1, len(taken) + 2))
        name = next(name for name in names if name.lower() not in taken)
        aside = f"{quote(self._target.schema)}.{quote(name)}"
        self._run(f"CREATE TABLE {aside} AS SELECT * FROM {was} WHERE {out}")
        self._run(f"COMMENT ON TABLE {aside} IS {text(ASIDE.format(table=self._table.name))}")
        return name

    def _make_indexes(self) -> None:
        """Those of the contract are made with it; the others as they were, where their columns are still there."""
        made = {index.name.lower() for index in self._want.indexes}
        lost = dict(broken_indexes(self._target, self._have, self._want, self.conversion.kept))
        for index in self._have.indexes:
            if index.name.lower() not in made and index.name not in lost:
                self._run(self._placed(index.sql))

    def _placed(self, statement: str) -> str:
        """The statement of an index where its table is: the catalog leaves the schema of a table out."""
        self._connection.execute(f"SET schema = {quote(self._target.schema)}")
        return statement

    def _comment(self) -> None:
        """What the contract says, and what somebody else has said of what the contract says nothing about."""
        comment = self._want.comment or self._have.comment
        if comment is not None:
            self._run(f"COMMENT ON TABLE {self._target.name} IS {text(comment)}")
        for one in self.conversion.carried:
            said = one.column.comment or (self.conversion.comment_before(one.column) if not one.fresh else None)
            if said is not None:
                self._run(f"COMMENT ON COLUMN {self._target.name}.{quote(one.column.name)} IS {text(said)}")

    def _run(self, statement: str) -> None:
        self._connection.execute(statement)


def tables_aside(connection: duckdb.DuckDBPyConnection, schema: str) -> list[tuple[str, str]]:
    """Every table of the schema with its comment."""
    query = (
        "SELECT table_name, coalesce(comment, '') FROM duckdb_tables() "
        "WHERE database_name = current_database() AND lower(schema_name) = lower(?)"
    )
    return [(str(name), str(comment)) for name, comment in connection.execute(query, [schema]).fetchall()]


def broken_indexes(target: SqlTable, have: Shape, want: Shape, kept: Sequence[Attribute]) -> Iterator[tuple[str, str]]:
    """Indexes that cannot live on, each with the reason: they use a column that the new table does not have."""
    made = {index.name.lower() for index in want.indexes}
    with duckdb.connect(":memory:") as scratch:
        columns = ", ".join(f"{quote(c.name)} {c.type}" for c in (*want.columns, *kept))
        scratch.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(target.schema)}")
        scratch.execute(f"SET schema = {quote(target.schema)}")
        for index in have.indexes:
            if index.name.lower() in made:
                continue
            scratch.execute(f"CREATE OR REPLACE TABLE {target.name} ({columns})")
            try:
                scratch.execute(index.sql)
                scratch.execute(f"DROP INDEX {quote(index.name)}")
            except duckdb.Error as error:
                yield index.name, str(error).splitlines()[0]


def broken_views(
    connection: duckdb.DuckDBPyConnection, target: SqlTable, want: Shape, kept: Sequence[Attribute]
) -> list[tuple[str, str]]:
    """Views that work now and would not work beside the new table, each with the reason. They stay, and fail."""
    tables = "SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = current_database()"
    views = (
        "SELECT schema_name, view_name, sql FROM duckdb_views() WHERE database_name = current_database() "
        "AND NOT internal ORDER BY view_oid"
    )
    found = connection.execute(views).fetchall()
    if not found:
        return []
    with duckdb.connect(":memory:") as scratch:
        for schema, name, _ in connection.execute(tables).fetchall():
            scratch.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
            types = connection.sql(f"SELECT * FROM {quote(schema)}.{quote(name)}")
            columns = ", ".join(f"{quote(c)} {t}" for c, t in zip(types.columns, types.types, strict=True))
            scratch.execute(f"CREATE TABLE {quote(schema)}.{quote(name)} ({columns})")
        before = _failing(scratch, found)
        columns = ", ".join(f"{quote(c.name)} {c.type}" for c in (*want.columns, *kept))
        scratch.execute(f"CREATE OR REPLACE TABLE {target.name} ({columns})")
        after = _failing(scratch, found)
    return [(name, why) for name, why in after.items() if name not in before]


def _failing(scratch: duckdb.DuckDBPyConnection, views: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    failing: dict[str, str] = {}
    for schema, name, statement in views:
        scratch.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
        scratch.execute(f"SET schema = {quote(schema)}")
        try:
            scratch.execute(f"DROP VIEW IF EXISTS {quote(schema)}.{quote(name)}")
            scratch.execute(statement)
            scratch.execute(f"SELECT * FROM {quote(schema)}.{quote(name)} LIMIT 0")
        except duckdb.Error as error:
            failing[name] = str(error).splitlines()[0]
    return failing
