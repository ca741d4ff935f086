"""Kept: the versions of replaced rows, which go along with their table, in its transaction.

Belongs here: which of them the target has not, and which it has no more to have; where versions lie, and what they are,
is known to `tables.versions`.
"""

from __future__ import annotations

from typing import NamedTuple

import duckdb

from etl_project.storage.contract import Table, WriteRefused
from etl_project.storage.copying.streams import Side, pour, refuse_other
from etl_project.storage.judging.drift import Column
from etl_project.storage.sql import quote
from etl_project.storage.tables.engine import Engine
from etl_project.storage.tables.table import SqlTable
from etl_project.storage.tables.versions import VERSION, Entry


class Behind(NamedTuple):
    """What the target's versions of an asset lack, and what they have too many."""

    missing: list[Entry]
    gone: list[Entry]

    def __bool__(self) -> bool:
        return bool(self.missing or self.gone)


def behind(
    source: Engine, there: duckdb.DuckDBPyConnection, target: Engine, here: duckdb.DuckDBPyConnection, asset: str
) -> Behind:
    """How the kept versions of the asset differ; one and the same version has the same number in both."""
    theirs = {one.version: one for one in source.versions(there).entries(asset)}
    own = {one.version: one for one in target.versions(here).entries(asset)}
    return Behind(
        [one for number, one in theirs.items() if number not in own],
        [one for number, one in own.items() if number not in theirs],
    )


def bring(
    source: Engine,
    there: duckdb.DuckDBPyConnection,
    target: Engine,
    here: duckdb.DuckDBPyConnection,
    table: SqlTable,
    what: Behind,
) -> None:
    """Copy what is missing and let go of the rest, in the open transaction. Raises WriteRefused as for tables."""
    theirs, own = source.versions(there), target.versions(here)
    whose = f"The kept versions of {table.table.asset!r}"
    for rows_in in sorted({one.rows_in for one in what.missing}):
        entries = [one for one in what.missing if one.rows_in == rows_in]
        relation = there.sql(f"SELECT * FROM {theirs.qualified(rows_in)}")
        columns = [Column(name, kind) for name, kind in zip(relation.columns, relation.types, strict=True)]
        types = [(c.name, "BIGINT" if c.name == VERSION else _home(table, c)) for c in columns]
        place = own.place(rows_in, types)
        numbers = ", ".join(str(int(one.version)) for one in entries)
        chosen = f"WHERE {quote(VERSION)} IN ({numbers})"
        names = [column.name for column in columns]
        given = Side(there, f"(SELECT * FROM {theirs.qualified(rows_in)} {chosen})")
        pour(given, Side(here, own.qualified(place)), names)
        stored = Side(here, f"(SELECT * FROM {own.qualified(place)} {chosen})")
        refuse_other(given, stored, names, whose, given.tally(names))
        lying = target.table(here, Table(table.table.asset, place, own.schema, partition_column=None))
        if problems := lying.not_held():
            raise WriteRefused(f"{whose}: {'; '.join(problems)}. Nothing was changed; retrying does not help.")
        own.enter([one._replace(rows_in=place) for one in entries])
    if what.gone:
        own.drop(what.gone)


def _home(table: SqlTable, column: Column) -> str:
    """Integers that would be DECIMAL, of another fingerprint, are BIGINT: one that does not fit is refused."""
    home = table.home_of(column)
    wide = str(column.type.id) in ("ubigint", "hugeint", "uhugeint")
    return "BIGINT" if wide and home.startswith("DECIMAL") else home
