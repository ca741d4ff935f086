"""The table of an asset: how it comes into being and how it grows, in SQL that any catalog of DuckDB takes.

Belongs here: creating the table (from its contract, else from the data), adding the partition column to a table that
has none, adding and widening columns, and reading the columns back. Everything runs inside the caller's transaction.
Nothing is ever dropped: constraints, indexes, comments, grants and views are the user's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from etl_project.storage.contract import Scope, Table, WriteRefused
from etl_project.storage.judging import row_tally
from etl_project.storage.judging.drift import Column, Pair
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.judging.messages import refused
from etl_project.storage.judging.placement import column_type_for, column_type_of
from etl_project.storage.sql import has_table, quote
from etl_project.storage.tables import contract_sql, owners

_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", re.DOTALL)
_CREATE = re.compile(
    r"\ACREATE\s+(?P<kind>(?:UNIQUE\s+)?INDEX|TABLE|VIEW|SEQUENCE|TYPE|SCHEMA)\s+(?P<if>IF\s+NOT\s+EXISTS\s+)?", re.I
)
_NAME = re.compile(r"(?:\"(?:[^\"]|\"\")*\"|[\w.])+")
COMMENT_ON = re.compile(r"\ACOMMENT\s+ON\s+(?P<kind>TABLE|COLUMN)\s+(?P<name>(?:\"(?:[^\"]|\"\")*\"|[\w.])+)", re.I)


class SqlTable:
    """One asset's table, seen from inside a transaction."""

    alters_values = False
    """Whether the database may store other values than it is given, by its types or by what somebody set up in it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, table: Table, schema: str = "main") -> None:
        """`schema` is where a table lies whose asset names none."""
        self._connection = connection
        self.table = table
        self.schema = owners.schema_of(connection, table, schema)
        self.name = f"{quote(self.schema)}.{quote(table.name)}"
        self._columns: list[Column] | None = None

    def exists(self) -> bool:
        """Whether the table is there. A view of that name is no table."""
        return has_table(self._connection, self.table.name, self.schema)

    def columns(self) -> list[Column]:
        """The table's columns in order, with what happens to those that get no value. Looked up once per change."""
        if self._columns is None:
            self._columns = self._look_up_columns()
        return self._columns

    def key(self) -> list[str]:
        """The columns of the primary key, else of a unique constraint; none when rows have no key."""
        query = (
            "SELECT constraint_column_names FROM duckdb_constraints() WHERE database_name = current_database() "
            "AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?) "
            "AND constraint_type IN ('PRIMARY KEY', 'UNIQUE') ORDER BY constraint_type, constraint_index LIMIT 1"
        )
        found = self._connection.execute(query, [self.schema, self.table.name]).fetchall()
        return list(found[0][0]) if found else []

    def stored_as(self, pair: Pair) -> Typed:
        """The value that an incoming column has once it is stored."""
        return row_tally.stored_as(pair)

    def home_of(self, column: Column) -> str:
        """The type that holds every value of a column of another database. Raises WriteRefused where there is none."""
        return str(column.type)

    def not_held(self) -> list[str]:
        """What is stored now and would not stay as it is, in words; nothing where a database keeps all values."""
        return []

    def broken_rules(self, names: Sequence[str], rows: str, values: Mapping[str, Any]) -> list[str]:
        """What the rows break that the catalog would not notice; nothing where it keeps all constraints itself.

        `rows` is a query that gives these columns in their order, with `values` bound. The table holds none any
        more of the rows that they replace.
        """
        return []

    def settle(self) -> None:
        """Have the catalog check now what it would check at COMMIT; an error is one of the rows."""
        return

    def broken_when_stored(self, where: str, values: Mapping[str, Any]) -> list[str]:
        """What stored rows break that the catalog does not keep; asked where `alters_values`, before COMMIT."""
        return []

    def delete(self, condition: str, values: Mapping[str, Any]) -> None:
        """Delete the rows for which the condition is true, with `values` bound in it."""
        self._connection.execute(f"DELETE FROM {self.name} WHERE {condition}", dict(values))

    def _default_is_given(self) -> str:
        """The condition on a column of the catalog that it fills itself."""
        return "column_default IS NOT NULL"

    def _stored_type(self, column: Column) -> str:
        """The type of a column made from data; an enumeration would refuse tomorrow's values."""
        return "VARCHAR" if column.type.id == "enum" else str(column.type)

    def _look_up_columns(self) -> list[Column]:
        relation = self._connection.sql(f"SELECT * FROM {self.name}")
        types = dict(zip(relation.columns, relation.types, strict=True))
        return [Column(name, types[name], required, filled) for name, required, filled in self._rules_of_columns()]

    def _rules_of_columns(self) -> list[tuple[str, bool, bool]]:
        """Of each column in order: its name, whether it may not be NULL, whether it is filled where none is given.

        The catalog's list of columns knows all of it, and costs ten times as much: it binds every view that there is.
        """
        if self._fills_what_it_does_not_say():
            return self._rules_in_catalog()
        query = f'SELECT column_name, "null" = \'NO\', "default" IS NOT NULL FROM (DESCRIBE {self.name})'
        return self._connection.execute(query).fetchall()

    def _fills_what_it_does_not_say(self) -> bool:
        """Whether a description of the table leaves out what fills a column: how a generated one comes about."""
        query = (
            "SELECT sql FROM duckdb_tables() WHERE database_name = current_database() "
            "AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?)"
        )
        made = self._connection.execute(query, [self.schema, self.table.name]).fetchall()
        return not made or "GENERATED ALWAYS" in made[0][0].upper()

    def _rules_in_catalog(self) -> list[tuple[str, bool, bool]]:
        query = (
            f"SELECT column_name, NOT is_nullable, {self._default_is_given()} FROM duckdb_columns() "
            "WHERE database_name = current_database() AND lower(schema_name) = lower(?) "
            "AND lower(table_name) = lower(?) ORDER BY column_index"
        )
        return self._connection.execute(query, [self.schema, self.table.name]).fetchall()

    def prepare(self, scope: Scope, incoming: Sequence[Column]) -> list[str]:
        """Make sure that the table and its partition column exist; says what was changed for it."""
        if not self.exists():
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(self.schema)}")
            if self.table.contract_sql is None:
                self._create_from(scope, incoming)
            else:
                self._create_by_contract(scope, self.table.contract_sql)
            return ["table created"]
        if self.table.dimensions:
            return self._refuse_without_dimensions(scope)
        if self.table.partition_column is None or scope.partitions[0].key is None:
            return []
        if any(c.name.lower() == self.table.partition_column.lower() for c in self.columns()):
            return []
        return [self._add_partition_column(scope, self.table.partition_column, incoming)]

    def add(self, columns: Sequence[Column]) -> list[str]:
        """Add nullable columns; says so."""
        self._columns = None
        for column in columns:
            kind = self._stored_type(column)
            self._connection.execute(f"ALTER TABLE {self.name} ADD COLUMN {quote(column.name)} {kind}")
        return [f"column {column.name!r} added as {self._stored_type(column)}" for column in columns]

    def widen(self, column: Column, kind: str) -> str:
        """Alter the column to a type that holds every old value; says so."""
        self._columns = None
        try:
            self._connection.execute(f"ALTER TABLE {self.name} ALTER COLUMN {quote(column.name)} TYPE {kind}")
        except (duckdb.ProgrammingError, duckdb.DependencyException) as error:
            raise WriteRefused(
                f"Asset {self.table.asset!r}: column {column.name!r} has to be widened from {column.type} to {kind}, "
                f"but DuckDB does not alter a column that an index, a key or a check uses ({error}). Nothing was "
                "changed; retrying does not help. Alter the table by hand, or deliver values that fit."
            ) from error
        return f"column {column.name!r} widened from {column.type} to {kind}"

    def _create_from(self, scope: Scope, incoming: Sequence[Column]) -> None:
        """Columns without type and values are left out: a later write that has values adds them."""
        definitions = []
        for column in incoming:
            if column.name.lower() in map(str.lower, self.table.partition_columns) and column.hollow:
                definitions.append(f"{quote(column.name)} {column_type_of(self.table, scope, column.name)}")
            elif not column.hollow:
                definitions.append(f"{quote(column.name)} {self._stored_type(column)}")
        if not definitions:
            raise WriteRefused(
                refused(self.table, scope, ["the data has no column with a type"], "Give the columns their types.")
            )
        self._connection.execute(f"CREATE TABLE {self.name} ({', '.join(definitions)})")

    def _create_by_contract(self, scope: Scope, script: str) -> None:
        """Run the script as it stands where nothing of it exists yet, and only the missing rest of it elsewhere."""
        before = self._tables()
        self._connection.execute(f"SET schema = {quote(self.schema)}")
        try:
            for statement in contract_statements(self._connection, script, self.table.asset):
                if not _comments_on_one_of(statement, before) and _created_table(statement) not in before:
                    self._refuse_unkept(scope, statement)
                    self._run_of_contract(statement)
        except (duckdb.ProgrammingError, duckdb.NotSupportedError) as error:
            problem = f"the contract's SQL fails: {error}"
            raise WriteRefused(refused(self.table, scope, [problem], "Correct contract_sql.")) from error
        if not self.exists():
            problem = f"the contract's SQL creates no table {self.table.name!r} in schema {self.schema!r}"
            raise WriteRefused(refused(self.table, scope, [problem], "Correct contract_sql or the table's name."))

    def _run_of_contract(self, statement: str) -> None:
        self._connection.execute(statement)

    def _refuse_unkept(self, scope: Scope, statement: str) -> None:
        """Tables that are there are passed over, not made again: DuckDB notes a FOREIGN KEY on its parent even then."""
        if problem := contract_sql.problem_of(statement):
            raise WriteRefused(
                refused(self.table, scope, [f"its contract cannot be used: {problem}"], "Correct contract_sql.")
            )

    def _tables(self) -> set[str]:
        query = (
            "SELECT lower(table_name) FROM duckdb_tables() "
            "WHERE database_name = current_database() AND lower(schema_name) = lower(?)"
        )
        return {row[0] for row in self._connection.execute(query, [self.schema]).fetchall()}

    def _refuse_without_dimensions(self, scope: Scope) -> list[str]:
        """Old rows have to say which partition they belong to: nobody else can say it for several dimensions."""
        there = {column.name.lower() for column in self.columns()}
        missing = [name for name in self.table.partition_columns if name.lower() not in there]
        if missing and self._scalar(f"SELECT count(*) FROM {self.name}"):
            problem = f"the table has rows and no columns {', '.join(map(repr, missing))}: nothing says whose they are"
            raise WriteRefused(refused(self.table, scope, [problem], "Add and fill these columns by hand first."))
        return []

    def _add_partition_column(self, scope: Scope, name: str, incoming: Sequence[Column]) -> str:
        """Old rows need an expression that gives their partition: rows without one would double on every rerun."""
        kinds = [self._stored_type(c) for c in incoming if c.name.lower() == name.lower() and not c.untyped]
        kind = kinds[0] if kinds else column_type_for(scope)
        old_rows = self._scalar(f"SELECT count(*) FROM {self.name}")
        expression = self.table.partition_expression
        if old_rows and expression is None:
            problem = f"the table has {old_rows} rows and no partition column {name!r}: nothing says which day they are"
            advice = "Set the asset's metadata 'partition_expression' to SQL that gives the day of an old row."
            raise WriteRefused(refused(self.table, scope, [problem], advice))
        self._columns = None
        self._connection.execute(f"ALTER TABLE {self.name} ADD COLUMN {quote(name)} {kind}")
        if old_rows:
            self._fill(scope, name, kind, str(expression))
        return f"partition column {name!r} added as {kind}"

    def _fill(self, scope: Scope, name: str, kind: str, expression: str) -> None:
        try:
            self._connection.execute(f"UPDATE {self.name} SET {quote(name)} = CAST(({expression}) AS {kind})")
        except (duckdb.ProgrammingError, duckdb.DataError) as error:
            problem = f"partition_expression {expression!r} fails: {error}"
            raise WriteRefused(refused(self.table, scope, [problem], "Correct partition_expression.")) from error
        lost = self._scalar(f"SELECT count(*) FROM {self.name} WHERE {quote(name)} IS NULL")
        if lost:
            problem = f"partition_expression {expression!r} gives no day for {lost} old rows"
            raise WriteRefused(refused(self.table, scope, [problem], "Correct partition_expression."))

    def _scalar(self, query: str) -> Any:
        return self._connection.execute(query).fetchall()[0][0]


def contract_statements(connection: duckdb.DuckDBPyConnection, script: str, asset: str) -> list[str]:
    """The script's statements, each made to pass over what exists already.

    Raises WriteRefused for anything but CREATE and COMMENT: a contract says what a table is, it changes no data.
    """
    statements = []
    for statement in connection.extract_statements(script):
        query = _COMMENTS.sub("", statement.query)
        create = _CREATE.match(query)
        if create is None and not query.upper().startswith("COMMENT"):
            raise WriteRefused(
                f"Asset {asset!r}: contract_sql may hold CREATE TABLE, INDEX, VIEW, SEQUENCE, TYPE, SCHEMA and "
                f"COMMENT, not {query.splitlines()[0]!r}. Retrying does not help."
            )
        if create is not None and create["if"] is None:
            query = f"{query[: create.end()]}IF NOT EXISTS {query[create.end() :]}"
        statements.append(query)
    return statements


def kind_of(statement: str) -> str | None:
    """What a statement of a contract creates, in upper case; None for one that creates nothing."""
    create = _CREATE.match(statement)
    return None if create is None else " ".join(create["kind"].upper().split())


def _created_table(statement: str) -> str | None:
    """The name of the table that a statement of a contract creates, in lower case; its schema does not count."""
    create = _CREATE.match(statement)
    if create is None or create["kind"].upper() != "TABLE":
        return None
    name = _NAME.match(statement, create.end())
    return None if name is None else _parts(name[0])[-1]


def _parts(name: str) -> list[str]:
    return [part.strip('"').lower() for part in re.findall(r'"(?:[^"]|"")*"|\w+', name)]


def _comments_on_one_of(statement: str, tables: set[str]) -> bool:
    """Whether it would overwrite a comment on a table that was there before: that one is the user's."""
    comment = COMMENT_ON.match(statement)
    if comment is None:
        return False
    parts = _parts(comment["name"])
    owner = parts[-1:] if comment["kind"].upper() == "TABLE" else parts[-2:-1]
    return bool(owner) and owner[0] in tables
