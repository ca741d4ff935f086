"""Drawn: what a table is, read from the database that it lies in, as statements that make it in another one.

Belongs here: columns, keys, checks, defaults, comments and indexes of a table, in DuckDB's words, and the names of what
has none. What the other database makes of the statements is its table's (`SqlTable.prepare`), which reads them as it
reads a contract. What a catalog does not know (a lake's keys, a server's checks) is taken from the asset's contract.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import duckdb

from etl_project.storage.contract import WriteRefused
from etl_project.storage.judging.drift import Column
from etl_project.storage.sql import quote, text
from etl_project.storage.tables import contract_sql, shape
from etl_project.storage.tables.engine import Engine
from etl_project.storage.tables.shape import Attribute, Index, Shape
from etl_project.storage.tables.table import SqlTable

WIDE = ("ubigint", "hugeint", "uhugeint")
_INDEX = re.compile(
    r"\A(CREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:\"(?:[^\"]|\"\")*\"|\w+)\s+ON\s+)(?:\"(?:[^\"]|\"\")*\"|[\w.])+", re.I
)
_OF_SEQUENCE = re.compile(r"\bnextval\s*\(", re.I)
_HEAD = re.compile(r"\ACREATE\s+TABLE\s+(?:\"(?:[^\"]|\"\")*\"|[\w.])+", re.I)


@dataclass(frozen=True)
class Drawn:
    """A table as it is: its shape, the types of its columns, and `unsaid`, what has no words for another database.

    `generated` are the columns that compute themselves; `statement` makes the table in a DuckDB file, where it is one.
    """

    shape: Shape
    columns: tuple[Column, ...]
    unsaid: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()
    statement: str | None = None

    @property
    def plain(self) -> tuple[Column, ...]:
        """The columns that take values."""
        return tuple(column for column in self.columns if column.name not in self.generated)


def draw(engine: Engine, connection: duckdb.DuckDBPyConnection, there: SqlTable, contract: str | None) -> Drawn:
    """The table as its database has it. `contract` is what the project says of the asset, where it says something."""
    relation = connection.sql(f"SELECT * FROM {there.name}")
    columns = tuple(Column(name, kind) for name, kind in zip(relation.columns, relation.types, strict=True))
    found = shape.read(connection, there.schema, there.table.name)
    if engine.comparable:
        return _of_file(connection, there, found, columns)
    said = replace(there.table, contract_sql=contract, schema=None)
    wanted = shape.wanted(said) if contract is not None else None
    return Drawn(*_completed(engine, connection, there, found, columns, wanted))


def script(drawn: Drawn, target: SqlTable, connection: duckdb.DuckDBPyConnection, source: str, same: bool) -> str:
    """The statements that make the table in the target; `same`: both are DuckDB files, and no word is another one.

    `source` is the table they come from, on `connection`. Raises WriteRefused (retrying does not help) for a column
    that the target cannot hold.
    """
    name = quote(target.table.name)
    if same and drawn.statement is not None:
        made = drawn.statement
    elif drawn.generated:
        raise WriteRefused(
            f"Table {target.table.name}: {', '.join(map(repr, drawn.generated))} GENERATED ALWAYS, which the target "
            "does not keep. Nothing was changed; retrying does not help. Make a plain column of it first."
        )
    else:
        made = _statement(drawn, name, homes(drawn, target, connection, source))
    return ";\n".join([made, *_comments(drawn.shape, name), *(_index(one, name) for one in drawn.shape.indexes)])


def homes(drawn: Drawn, target: SqlTable, connection: duckdb.DuckDBPyConnection, source: str) -> dict[str, str]:
    """The type of each column in the target. Integers that it would hold as DECIMAL are BIGINT where they all fit.

    So the fingerprints stay what they are: those of a DECIMAL are others.
    """
    found = {column.name: target.home_of(column) for column in drawn.columns}
    wide = [c.name for c in drawn.columns if str(c.type.id) in WIDE and found[c.name].startswith("DECIMAL")]
    for name in wide:
        value = quote(name)
        too_wide = f"{value} IS NOT NULL AND TRY_CAST({value} AS BIGINT) IS NULL"
        [[lost]] = connection.execute(f"SELECT count(*) FILTER ({too_wide}) FROM {source}").fetchall()
        if not lost:
            found[name] = "BIGINT"
    return found


def not_there(drawn: Drawn, engine: Engine) -> list[str]:
    """What the table has and the target's catalog will not."""
    said, shape_ = list(drawn.unsaid), drawn.shape
    if not engine.keyed and shape_.keys:
        said.append(f"{len(shape_.keys)} keys (kept by our writes as long as the contract has them)")
    if not engine.comparable and shape_.checks:
        said.append(f"{len(shape_.checks)} checks (kept by our writes as long as the contract has them)")
    if not engine.keyed and shape_.indexes:
        said.append(f"indexes {', '.join(index.name for index in shape_.indexes)}")
    return said


def _of_file(
    connection: duckdb.DuckDBPyConnection, there: SqlTable, found: Shape, columns: tuple[Column, ...]
) -> Drawn:
    where = "database_name = current_database() AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?)"
    [[sql]] = connection.execute(
        f"SELECT sql FROM duckdb_tables() WHERE {where}", [there.schema, there.table.name]
    ).fetchall()
    if contract_sql.problem_of(sql):
        raise WriteRefused(
            f"Table {there.table.name}: it has a FOREIGN KEY, and DuckDB does not replace rows that others refer to. "
            "Nothing was changed; retrying does not help. Make the table anew without it."
        )
    described = connection.execute(f'SELECT column_name, "default" FROM (DESCRIBE {there.name})').fetchall()
    filled = {name for name, default in described if default is not None}
    generated = tuple(c.name for c in found.columns if c.default is not None and c.name not in filled)
    head = _HEAD.match(sql)
    assert head is not None  # DuckDB has written it.
    statement = f"CREATE TABLE {quote(there.table.name)}{sql[head.end() :].rstrip('; ')}"
    counted = [c for c in found.columns if c.default is not None and _OF_SEQUENCE.search(c.default)]
    if not counted:
        return Drawn(found, columns, (), generated, statement)
    # A sequence is a thing of its own, which other tables may use as well: it is left behind, and so is the default.
    unsaid = tuple(f"what fills column {c.name} ({c.default})" for c in counted)
    left = tuple(c._replace(default=None) if c in counted else c for c in found.columns)
    return Drawn(replace(found, columns=left), columns, unsaid, generated)


def _completed(
    engine: Engine,
    connection: duckdb.DuckDBPyConnection,
    there: SqlTable,
    found: Shape,
    columns: tuple[Column, ...],
    wanted: Shape | None,
) -> tuple[Shape, tuple[Column, ...], tuple[str, ...]]:
    """What the catalog says, and what it does not know from the contract."""
    known = engine.known(connection, there, found)
    said = {} if wanted is None else wanted.by_name
    by_name = known.shape.by_name
    attributes = []
    for column in columns:
        have, want = by_name[column.name.lower()], said.get(column.name.lower())
        default = have.default if want is None else want.default
        attributes.append(have._replace(name=column.name, type=str(column.type), default=default))
    unsaid = [one for name, one in known.defaults_unsaid.items() if name.lower() not in said]
    shape_ = replace(
        known.shape,
        columns=tuple(attributes),
        checks=() if wanted is None else wanted.checks,
        keys=known.shape.keys or (() if wanted is None else wanted.keys),
        indexes=known.shape.indexes or (() if wanted is None else wanted.indexes),
    )
    return shape_, columns, (*known.unsaid, *unsaid)


def _statement(drawn: Drawn, name: str, types: dict[str, str]) -> str:
    def column(one: Attribute) -> str:
        default = "" if one.default is None else f" DEFAULT {one.default}"
        return f"{quote(one.name)} {types[one.name]}{default}{' NOT NULL' if one.required else ''}"

    parts = [column(one) for one in drawn.shape.columns]
    parts += [f"{kind} ({', '.join(map(quote, columns))})" for kind, columns in drawn.shape.keys]
    parts += [one if one.upper().startswith("CHECK") else f"CHECK ({one})" for one in drawn.shape.checks]
    return f"CREATE TABLE {name} ({', '.join(parts)})"


def _comments(found: Shape, name: str) -> Iterator[str]:
    if found.comment is not None:
        yield f"COMMENT ON TABLE {name} IS {text(found.comment)}"
    for one in found.columns:
        if one.comment is not None:
            yield f"COMMENT ON COLUMN {name}.{quote(one.name)} IS {text(one.comment)}"


def _index(index: Index, name: str) -> str:
    return _INDEX.sub(lambda found: f"{found[1]}{name}", index.sql).rstrip("; ")
