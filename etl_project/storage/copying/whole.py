"""Whole: every table of a warehouse into another one, table by table, so that it can be stopped and done again.

Belongs here: which tables there are, their order, and what is not copied because it is no asset's. How one is copied is
`table`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import duckdb

from etl_project.storage.contract import Table, WriteRefused
from etl_project.storage.copying import notes
from etl_project.storage.copying.table import Copied, One, copy_table
from etl_project.storage.deployment import NOTES
from etl_project.storage.sql import has_table
from etl_project.storage.tables import owners
from etl_project.storage.tables.candidates import NAME as CANDIDATES
from etl_project.storage.tables.engine import Engine
from etl_project.storage.tables.records import NAME as RECORDS
from etl_project.storage.tables.store import TableStore
from etl_project.storage.tables.versions import NAME as VERSIONS

_SERVERS_OWN = ("information_schema", "pg_catalog")
_OURS = (RECORDS, owners.TABLE, VERSIONS, CANDIDATES, notes.NAME, NOTES)


class Report(NamedTuple):
    """What came of a copy: its tables, why others were refused, and what nobody has asked for: tables, views."""

    done: tuple[Copied, ...]
    refused: Mapping[str, str]
    others: tuple[str, ...]


class NothingThere(WriteRefused):
    """The warehouse that is to be copied holds nothing. Retrying does not help."""


def copy_warehouse(
    source: TableStore, target: TableStore, tables: Iterable[Table] = (), tell: Callable[[Copied], None] | None = None
) -> Report:
    """Make the target hold every table of the source with its commit records and kept versions, one after the other.

    `tables` are what a project says of its assets: their contracts know what some catalogs do not. `tell` hears of each
    table as it is done. A kill leaves whole tables; the next call goes on with the rest and brings again what the
    source has changed since. Rows of the target that no copy has written are never touched: such a table is refused,
    and the others are copied. Candidates stay where they are.

    Raises WriteRefused (retrying does not help) where source and target are the same or the source is empty, StoreBusy
    and StoreUnavailable (it does).
    """
    if source.identity == target.identity:
        raise WriteRefused(f"{source.identity} is both what is to be copied and where to. Name two warehouses.")
    contracts = {table.asset: table for table in tables}
    with source.look() as there:
        if there is None:
            raise NothingThere(
                f"{source.identity}: there is no warehouse. Nothing was changed; retrying does not help."
            )
        found = _tables(source.engine, there, contracts)
        others = _others(source.engine, there, found)
    if not found:
        raise NothingThere(
            f"{source.identity} has no table of an asset and no commit record. Nothing was changed; retrying does "
            "not help."
        )
    done, refused = [], {}
    for one in found:
        try:
            copied = copy_table(source, target, one)
        except WriteRefused as error:
            refused[one.asset] = str(error)
            continue
        done.append(copied)
        if tell is not None:
            tell(copied)
    return Report(tuple(done), refused, tuple(others))


def _tables(engine: Engine, there: duckdb.DuckDBPyConnection, contracts: Mapping[str, Table]) -> list[One]:
    """Every asset of the warehouse with its table: as it was noted, else as the project says; else records alone."""
    found = []
    for schema, name, asset in owners.noted(there, engine.schema):
        found.append(One(asset, _outside(engine, schema), name, _contract(contracts, asset, name)))
    with_table = {one.asset for one in found}
    for asset in sorted(set(engine.records(there).assets()) - with_table):
        table = contracts.get(asset)
        home = None if table is None else engine.table(there, table).schema
        if table is not None and has_table(there, table.name, home):
            found.append(One(asset, _outside(engine, str(home)), table.name, table.contract_sql))
        else:
            found.append(One(asset, None, None, None))
    return found


def _contract(contracts: Mapping[str, Table], asset: str, name: str) -> str | None:
    table = contracts.get(asset)
    return table.contract_sql if table is not None and table.name.lower() == name.lower() else None


def _outside(engine: Engine, schema: str) -> str | None:
    """The schema where it is none that every warehouse has under a name of its own."""
    return None if schema.lower() == engine.schema.lower() else schema


def _others(engine: Engine, there: duckdb.DuckDBPyConnection, copied: Iterable[One]) -> list[str]:
    """Tables and views that are no asset's."""
    mine = {((one.schema or engine.schema).lower(), (one.name or "").lower()) for one in copied}
    own = {f"{engine.schema}_versions", f"{engine.schema}_candidates", "etl_guards", *_SERVERS_OWN}
    query = (
        "SELECT 'table', schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() "
        "UNION ALL SELECT 'view', schema_name, view_name FROM duckdb_views() WHERE database_name = current_database() "
        "AND NOT internal ORDER BY ALL"
    )
    return [
        f"{kind} {schema}.{name}"
        for kind, schema, name in there.execute(query).fetchall()
        if schema.lower() not in own and name not in _OURS and (schema.lower(), name.lower()) not in mine
    ]
