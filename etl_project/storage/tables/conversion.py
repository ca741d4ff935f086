"""Conversion: old rows of a table in the shape that its contract wants, and which of them have no place in it.

Belongs here: the SQL that carries a value over, the SQL that tells where it cannot be carried over without becoming
another one, and counting such rows by partition. It only reads.

A value goes over when it comes out the same. Numbers and days that were kept as text count by their value; an instant
with a zone and a time without one are never each other: nobody here knows the zone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import duckdb

from etl_project.storage.contract import Table
from etl_project.storage.sql import quote, text
from etl_project.storage.tables.shape import Attribute, Shape, Wishes

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_UNSIGNED = ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")
_ZONED = "TIMESTAMP WITH TIME ZONE"
_MOMENTS = ("DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIME")
_DAYS_SHOWN = 10


class Unfit(NamedTuple):
    """Rows that have no place in the new shape: why, how many, and how many of each partition."""

    why: str
    rows: int
    partitions: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        shown = ", ".join(f"{key} ({rows})" for key, rows in self.partitions[:_DAYS_SHOWN])
        more = len(self.partitions) - _DAYS_SHOWN
        return f"{self.rows} rows: {self.why}: {shown}{f' and {more} more' if more > 0 else ''}"


class Carried(NamedTuple):
    """A column of the new table: its value as SQL over the old rows, and the condition under which that is another one.

    `fresh`: the old table has no such column.
    """

    column: Attribute
    value: str
    lost: str | None
    fresh: bool


class Conversion:
    """How the rows of one table go over."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, table: Table, have: Shape, want: Shape, wishes: Wishes
    ) -> None:
        self._connection = connection
        self._table = table
        self._have = have
        self.want = want
        self._renamed = {new.lower(): old for new, old in wishes.renamed.items()}
        dropped = {name.lower() for name in wishes.dropped}
        gone = {*dropped, *(old.lower() for old in wishes.renamed.values())}
        self.kept = [c for c in have.columns if c.name.lower() not in gone and c.name.lower() not in want.by_name]
        self.carried = [*(self._carry(column) for column in want.columns), *(_as_it_is(c) for c in self.kept)]

    def names(self) -> str:
        """The columns that get a value, as SQL; the others are filled by their defaults."""
        return ", ".join(quote(one.column.name) for one in self.carried if not one.fresh)

    def select(self, relation: str, where: str = "") -> str:
        """The old rows of a relation as new ones."""
        values = ", ".join(one.value for one in self.carried if not one.fresh)
        return f"SELECT {values} FROM {relation} {where}"

    def unfit(self, relation: str) -> list[Unfit]:
        """Every reason for which rows of the old table have no place in the new one, with rows and partitions."""
        found = []
        for why, condition in self.conditions(relation):
            query = f"SELECT {self._partition()}, count(*) FROM {relation} WHERE {condition} GROUP BY 1 ORDER BY 1"
            counted = self._connection.execute(query).fetchall()
            if counted:
                found.append(Unfit(why, sum(rows for _, rows in counted), tuple((str(k), n) for k, n in counted)))
        return found

    def conditions(self, relation: str) -> Iterator[tuple[str, str]]:
        """Why an old row may have no place, and the SQL over old rows that is true for such a row."""
        for one in self.carried:
            if one.lost is not None:
                yield self._not_held(one, relation), one.lost
            missing = f"({self._default(one) if one.fresh else one.value}) IS NULL"
            if one.column.required:
                condition = missing if one.lost is None else f"{missing} AND NOT ({one.lost})"
                yield f"column {one.column.name} may not be NULL, and they have no value for it", condition
        over = self._rows(relation)
        for check in self.want.checks:
            broken = f"SELECT etl_row FROM {over} WHERE ({check}) IS FALSE"
            yield f"they break CHECK {check}", f"rowid IN ({broken})"
        for kind, columns in self.want.keys:
            if (kind, columns) not in self._have.keys or self._changes(columns):
                names = ", ".join(map(quote, columns))
                whole = " AND ".join(f"{quote(column)} IS NOT NULL" for column in columns)
                twice = f"SELECT {names} FROM {over} WHERE {whole} GROUP BY ALL HAVING count(*) > 1"
                same = f"SELECT etl_row FROM {over} WHERE ({names}) IN ({twice})"
                yield f"they share their {kind} ({', '.join(columns)}) with others", f"rowid IN ({same})"

    def rereads(self, name: str | None) -> bool:
        """Whether text may be read as another value of the new type of this column than of the old one."""
        column = self.want.by_name[str(name).lower()]
        old = self._have.by_name[self._renamed.get(column.name.lower(), column.name).lower()]
        return not keeps_every_text(old.type, column.type)

    def comment_before(self, column: Attribute) -> str | None:
        """What was said of the column in the old table."""
        old = self._have.by_name.get(self._renamed.get(column.name.lower(), column.name).lower())
        return None if old is None else old.comment

    def _rows(self, relation: str) -> str:
        """The rows as they would be, with where they come from."""
        values = ", ".join(
            f"{self._default(one) if one.fresh else one.value} AS {quote(one.column.name)}" for one in self.carried
        )
        return f"(SELECT rowid AS etl_row, {values} FROM {relation})"

    def _default(self, one: Carried) -> str:
        return f"CAST({one.column.default or 'NULL'} AS {one.column.type})"

    def _changes(self, columns: Sequence[str]) -> bool:
        there = self._have.by_name
        return any(
            self._renamed.get(c.lower())
            or c.lower() not in there
            or there[c.lower()].type != self.want.by_name[c.lower()].type
            for c in columns
        )

    def _carry(self, column: Attribute) -> Carried:
        old = self._have.by_name.get(self._renamed.get(column.name.lower(), column.name).lower())
        if old is None:
            return Carried(column, "NULL", None, fresh=True)
        name = quote(old.name)
        if old.type == column.type:
            return Carried(column, name, None, fresh=False)
        if not self._can_be_cast(old.type, column.type):
            return Carried(column, f"NULL::{column.type}", f"{name} IS NOT NULL", fresh=False)
        value = f"TRY_CAST({name} AS {column.type})"
        changed = _changed(name, value, old.type, column.type)
        return Carried(column, value, f"({name} IS NOT NULL AND {changed})", fresh=False)

    def _can_be_cast(self, old: str, new: str) -> bool:
        zones = {old == _ZONED, new == _ZONED}
        if zones == {True, False} and {old, new} & {*_MOMENTS}:
            return False
        try:
            self._connection.execute(f"SELECT TRY_CAST(NULL::{old} AS {new})").fetchall()
        except duckdb.Error:
            return False
        return True

    def _not_held(self, one: Carried, relation: str) -> str:
        old = self._have.by_name[self._renamed.get(one.column.name.lower(), one.column.name).lower()]
        query = f"SELECT DISTINCT {quote(old.name)}::VARCHAR FROM {relation} WHERE {one.lost} ORDER BY 1 LIMIT 3"
        examples = ", ".join(str(value) for (value,) in self._connection.execute(query).fetchall())
        return (
            f"column {one.column.name} is to be {one.column.type}, which does not hold {old.type} {examples}".rstrip()
        )

    def _partition(self) -> str:
        """The partition of a row, as SQL that gives text, for people."""
        names = [name for name in self._table.partition_columns if name.lower() in self._have.by_name]
        return " || '|' || ".join(f"coalesce({quote(n)}::VARCHAR, 'NULL')" for n in names) or text("all")


def keeps_every_text(old: str, new: str) -> bool:
    """Whether text that was read as one of these types is read as the same value of the other: no file need be read
    again, as long as no row of it was a reject. True for whole numbers, and for decimals that only get more room."""
    whole = (*_INTEGERS, *_UNSIGNED)
    if old in whole and new in whole:
        return True
    first, second = _decimal(old), _decimal(new)
    if second is None:
        return False
    if old in whole:
        return True
    return first is not None and second[1] >= first[1] and second[0] - second[1] >= first[0] - first[1]


def _decimal(kind: str) -> tuple[int, int] | None:
    if not kind.startswith("DECIMAL("):
        return None
    precision, scale = kind.removeprefix("DECIMAL(").removesuffix(")").split(",")
    return int(precision), int(scale)


def _changed(name: str, value: str, old: str, new: str) -> str:
    """SQL that is true where the cast of a value is not the same value."""
    if new == "VARCHAR":
        return f"{value} IS NULL"
    if old != "VARCHAR":
        return f"TRY_CAST({value} AS {old}) IS DISTINCT FROM {name}"
    if new in (*_INTEGERS, *_UNSIGNED) or new.startswith("DECIMAL("):
        return _differs_as("DECIMAL(38,18)", name, value)
    if new == "DATE":
        return _differs_as("TIMESTAMP", name, value)
    return f"{value} IS NULL"


def _as_it_is(column: Attribute) -> Carried:
    """A column that only the table has: it stays, and new rows need not have it."""
    return Carried(column._replace(required=False), quote(column.name), None, fresh=False)


def _differs_as(kind: str, name: str, value: str) -> str:
    """SQL that is true where text and the value that was made of it are not the same value of the larger type."""
    same = f"TRY_CAST({name} AS {kind}) IS NOT DISTINCT FROM TRY_CAST({value} AS {kind})"
    return f"({value} IS NULL OR NOT ({same}))"
