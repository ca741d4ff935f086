"""Shape: what a table is (columns, constraints, comments, indexes), and how that differs from what its contract says.

Belongs here: reading both from DuckDB's catalog, and naming every difference. Nothing is changed, and no row is looked
at: what becomes of rows is `conversion`'s, carrying it out `reshape`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import duckdb

from etl_project.storage.contract import Scope, Table, WriteRefused
from etl_project.storage.tables.table import SqlTable

Kind = Literal["type", "added", "dropped", "kept", "renamed", "required", "nullable", "default"]
TableKind = Literal["check added", "check removed", "key added", "key removed", "comment", "index added"]


class Attribute(NamedTuple):
    """A column: its type as DuckDB prints it, whether it may be NULL, its default as SQL, its comment."""

    name: str
    type: str
    required: bool
    default: str | None
    comment: str | None


class Index(NamedTuple):
    """An index that somebody made, with its statement."""

    name: str
    sql: str


@dataclass(frozen=True)
class Shape:
    """A table without its rows. `keys`: PRIMARY KEY or UNIQUE, and the columns."""

    columns: tuple[Attribute, ...]
    checks: tuple[str, ...]
    keys: tuple[tuple[str, tuple[str, ...]], ...]
    comment: str | None
    indexes: tuple[Index, ...]

    @property
    def by_name(self) -> dict[str, Attribute]:
        """The columns by their names in lower case."""
        return {column.name.lower(): column for column in self.columns}


class Known(NamedTuple):
    """A table as a server knows it: `unsaid` names what DuckDB has no words for, `defaults_unsaid` those defaults."""

    shape: Shape
    unsaid: tuple[str, ...] = ()
    defaults_unsaid: Mapping[str, str] = {}


class Difference(NamedTuple):
    """One thing in which the table is not what its contract says. `column`: as the contract calls it, or the table."""

    kind: Kind | TableKind
    said: str
    column: str | None = None


class Unnamed(WriteRefused):
    """A column that is to be renamed or dropped is not there. Retrying does not help."""


@dataclass(frozen=True)
class Wishes:
    """What a contract cannot say: `renamed` is the old name of a column by its new one, `dropped` are old names."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: Collection[str] = ()


def read(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> Shape:
    """The table as the catalog has it."""
    where = (
        "WHERE database_name = current_database() AND lower(schema_name) = lower($schema) "
        "AND lower(table_name) = lower($name)"
    )

    def ask(query: str) -> list[tuple[object, ...]]:
        return connection.execute(query.replace("WHERE", where), {"schema": schema, "name": name}).fetchall()

    columns = ask(
        "SELECT column_name, data_type, NOT is_nullable, column_default, comment FROM duckdb_columns() "
        "WHERE ORDER BY column_index"
    )
    constraints = ask(
        "SELECT constraint_type, expression, constraint_column_names FROM duckdb_constraints() "
        "WHERE ORDER BY constraint_index"
    )
    [comment] = ask("SELECT comment FROM duckdb_tables() WHERE")
    indexes = ask("SELECT index_name, sql FROM duckdb_indexes() WHERE AND sql IS NOT NULL ORDER BY index_name")
    return Shape(
        columns=tuple(Attribute(*column) for column in columns),  # type: ignore[arg-type]
        checks=tuple(str(text) for kind, text, _ in constraints if kind == "CHECK"),
        keys=tuple((str(kind), tuple(of)) for kind, _, of in constraints if kind in ("PRIMARY KEY", "UNIQUE")),  # type: ignore[arg-type]
        comment=None if comment[0] is None else str(comment[0]),
        indexes=tuple(Index(*index) for index in indexes),  # type: ignore[arg-type]
    )


def wanted(table: Table) -> Shape:
    """The table as its contract makes it, in an empty database. Raises WriteRefused where the contract makes none."""
    with duckdb.connect(":memory:") as scratch:
        made = SqlTable(scratch, table)
        made.prepare(Scope.whole(), ())
        return read(scratch, made.schema, table.name)


def advice(table: Table, columns: Sequence[tuple[str, str]]) -> str:
    """What to do about a write that was refused because the contract was edited since; empty where it was not."""
    if table.contract_sql is None:
        return ""
    there = {name.lower(): kind for name, kind in columns}
    wants = wanted(table).columns
    others = [f"{c.name} {c.type}" for c in wants if there.get(c.name.lower(), c.type) != c.type]
    gone = [f"no {name}" for name, _ in columns if name.lower() not in {c.name.lower() for c in wants}]
    if not (others or gone):
        return ""
    return f" Its contract says {', '.join([*others, *gone])} now: `etl contract plan` says what becomes of the table."


def differences(have: Shape, want: Shape, wishes: Wishes) -> list[Difference]:
    """Everything in which the table is not what the contract says. Raises Unnamed for wishes about no column."""
    _refuse_unnamed(have, want, wishes)
    found = [
        *_of_columns(have, want, wishes),
        *_of_sets("check", have.checks, want.checks),
        *_of_sets("key", [_key(key) for key in have.keys], [_key(key) for key in want.keys]),
    ]
    if want.comment is not None and have.comment != want.comment:
        found.append(Difference("comment", "the comment of the table is another one"))
    there = {index.name.lower() for index in have.indexes}
    found += [
        Difference("index added", f"index {index.name} is not there")
        for index in want.indexes
        if index.name.lower() not in there
    ]
    return found


def _of_columns(have: Shape, want: Shape, wishes: Wishes) -> Iterator[Difference]:
    renamed = {new.lower(): old for new, old in wishes.renamed.items()}
    there = have.by_name
    for column in want.columns:
        old = there.get(renamed.get(column.name.lower(), column.name).lower())
        if old is None:
            yield Difference("added", f"column {column.name} {described(column)} is not in the table", column.name)
            continue
        if column.name.lower() in renamed:
            yield Difference("renamed", f"column {old.name} becomes {column.name}", column.name)
        yield from _of_column(old, column)
    taken = {name.lower() for name in (*renamed.values(), *(column.name for column in want.columns))}
    dropped = {name.lower() for name in wishes.dropped}
    for column in have.columns:
        if column.name.lower() in dropped:
            yield Difference("dropped", f"column {column.name} goes, with its values", column.name)
        elif column.name.lower() not in taken:
            yield Difference(
                "kept",
                f"column {column.name} is not in the contract: it stays, NULL in new rows, unless it is said to be "
                "dropped or renamed",
                column.name,
            )


def _of_column(old: Attribute, new: Attribute) -> Iterator[Difference]:
    if old.type != new.type:
        yield Difference("type", f"column {new.name} is {old.type} in the table, {new.type} by the contract", new.name)
    if old.required != new.required:
        said = "may not be NULL any more" if new.required else "may be NULL now"
        yield Difference("required" if new.required else "nullable", f"column {new.name} {said}", new.name)
    if old.default != new.default:
        yield Difference("default", f"column {new.name} has the default {new.default}, not {old.default}", new.name)
    if new.comment is not None and old.comment != new.comment:
        yield Difference("comment", f"the comment of column {new.name} is another one", new.name)


def _of_sets(what: Literal["check", "key"], have: Sequence[str], want: Sequence[str]) -> Iterator[Difference]:
    added: dict[str, TableKind] = {"check": "check added", "key": "key added"}
    removed: dict[str, TableKind] = {"check": "check removed", "key": "key removed"}
    named = {"check": "CHECK ", "key": ""}[what]
    yield from (Difference(added[what], f"{named}{text} is new") for text in want if text not in have)
    yield from (Difference(removed[what], f"{named}{text} is gone") for text in have if text not in want)


def described(column: Attribute) -> str:
    """The column's type and what goes with it, as DDL writes them."""
    default = "" if column.default is None else f" DEFAULT {column.default}"
    return f"{column.type}{default}{' NOT NULL' if column.required else ''}"


def _key(key: tuple[str, tuple[str, ...]]) -> str:
    return f"{key[0]} ({', '.join(key[1])})"


def _refuse_unnamed(have: Shape, want: Shape, wishes: Wishes) -> None:
    there, then = have.by_name, want.by_name
    problems = [
        f"{old} is to become {new}, and the table has no column {old}"
        for new, old in wishes.renamed.items()
        if old.lower() not in there
    ]
    problems += [
        f"{old} is to become {new}, and the contract has no column {new}"
        for new, old in wishes.renamed.items()
        if new.lower() not in then
    ]
    problems += [
        f"{old} is to become {new}, and the contract still has {old}"
        for new, old in wishes.renamed.items()
        if old.lower() in then
    ]
    problems += [
        f"{old} is to be dropped, and the table has none" for old in wishes.dropped if old.lower() not in there
    ]
    problems += [f"{old} is to be dropped, and the contract has it" for old in wishes.dropped if old.lower() in then]
    if problems:
        raise Unnamed(f"{'; '.join(problems)}. Nothing was changed; retrying does not help.")
