"""A database on the side: partitions copied from the real one, and brought into another order.

Belongs here: what a proof does to a store that it throws away. Nothing here touches the real database but to read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from etl_project.storage.contract import Scope, Table
from etl_project.storage.fetch import arrow_reader
from etl_project.storage.judging import judgement
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.sql import Binds, quote, unique
from etl_project.storage.tables import owners
from etl_project.storage.tables.records import NAME

if TYPE_CHECKING:
    from etl_project.storage.tables.store import TableStore


def adopt(mine: TableStore, other: TableStore, table: Table, scope: Scope | None, *, records: bool) -> None:
    """Copy the table's rows of these partitions, in their order, and all their records.

    The table is made like the other one but for its constraints. Nothing happens where the other has no such table.
    Raises StoreBusy (retrying helps) when somebody holds the other database for longer than its wait setting.
    """
    with other.look() as there, mine.connect() as here:
        if there is None:
            return
        source = other.engine.table(there, table)
        if source.exists():
            relation = there.sql(f"SELECT * FROM {source.name}")
            columns = [Typed(c, quote(c), t) for c, t in zip(relation.columns, relation.types, strict=True)]
            binds, where = Binds(), "WHERE false"
            if scope is not None:
                rows = judgement.placed(source.name, columns, table, scope)
                where = rows._replace(only=range(len(scope.partitions))).where(binds)
            found = there.execute(f"SELECT * FROM {source.name} {where}", binds.values or None)
            _make(here, mine, table, columns, arrow_reader(found))
            target = mine.engine.table(here, table)
            owners.claim(here, table, target.schema, True, list, mine.engine.schema, mine.engine.keyed)
        if records and scope is not None:
            own, theirs = mine.engine.records(here), other.engine.records(there)
            own.prepare()
            own.claim([one for p in scope.partitions for one in theirs.history(table.asset, p.key)])


def _make(
    here: duckdb.DuckDBPyConnection, mine: TableStore, table: Table, columns: list[Typed], rows: pa.RecordBatchReader
) -> None:
    """The types are stated: on the way through Arrow some would become others (an enumeration, a UUID)."""
    target = mine.engine.table(here, table)
    here.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(target.schema)}")
    here.execute(f"CREATE TABLE {target.name} ({', '.join(f'{quote(c.name)} {c.type}' for c in columns)})")
    name = unique("etl_copied")
    here.register(name, rows)
    try:
        here.execute(f"INSERT INTO {target.name} SELECT * FROM {quote(name)}")
    finally:
        here.unregister(name)


def shuffle(connection: duckdb.DuckDBPyConnection, turn: int) -> None:
    """Write every table but the records anew in another order: reversed in turn 1, shuffled in later ones."""
    order = "rowid DESC" if turn == 1 else f"hash(rowid + {turn})"
    tables = "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database()"
    for schema, name in connection.execute(tables).fetchall():
        if name not in (NAME, owners.TABLE):
            table = f"{quote(schema)}.{quote(name)}"
            connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM {table} ORDER BY {order}")
