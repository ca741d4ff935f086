"""Upkeep: a lake's files merged, its old snapshots let go, and files removed that nothing refers to any more.

Belongs here: what DuckLake leaves to its owner. Every write adds files, and a replaced partition's stay for readers of
older snapshots, and so do the entries of versions that were let go. Rows, commit records and kept versions are not
touched: they are all in the newest snapshot.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple

import duckdb

from etl_project import utc
from etl_project.failures import Permanent
from etl_project.storage.contract import StoreBusy
from etl_project.storage.engines.ducklake.attach import LAKE
from etl_project.storage.engines.ducklake.engine import GUARDS, DuckLake
from etl_project.storage.engines.server import queue
from etl_project.storage.tables.engine import Conflict
from etl_project.storage.tables.versions import NAME as VERSIONS

SHORTEST = timedelta(days=1)
"""A reader of an older snapshot, and a write under way, take less."""


class TooShort(Permanent):
    """Files would be removed that somebody may still read. Retrying does not help."""


class Tidied(NamedTuple):
    """What was done: tables whose files were merged, what is gone, tables that were busy.

    `versions`: of how many kept versions that were let go the entries went, too.
    """

    versions: int
    merged: tuple[str, ...]
    snapshots: int
    files: int
    busy: tuple[str, ...]


def tidy(engine: DuckLake, wait_seconds: float, keep: timedelta) -> Tidied:
    """Remove the entries of versions that have gone, merge small files, expire snapshots older than `keep`, and remove
    files that were let go before that.

    A table that is being written for longer than `wait_seconds` is passed over and named. Each step is a transaction of
    its own: a kill leaves what the last one left, and the next call goes on.
    Raises TooShort for less than a day (retrying does not help), StoreUnavailable (it does).
    """
    if keep < SHORTEST:
        raise TooShort("A lake's snapshots of the last day stay: somebody may be reading them. Give 1d or more.")
    before = utc.now() - keep
    merged, busy = [], []
    with engine.writing(wait_seconds) as connection:
        try:
            versions = _swept(engine, connection)
        except Conflict:
            versions = 0
            busy.append(f"{engine.schema}.{VERSIONS}")
        for schema, name in _tables(connection, engine):
            try:
                with queue.turn(engine.address, name.lower(), wait_seconds):
                    done = _called(engine, connection, "merge_adjacent_files", "?, schema => ?", name, schema)
            except (StoreBusy, Conflict):
                busy.append(f"{schema}.{name}")
                continue
            merged += [f"{schema}.{name}"] if done else []
        snapshots = _called(engine, connection, "expire_snapshots", "older_than => ?", before)
        files = _called(engine, connection, "cleanup_old_files", "older_than => ?", before)
        files += _called(engine, connection, "delete_orphaned_files", "older_than => ?", before)
    return Tidied(versions, tuple(merged), snapshots, files, tuple(busy))


def _swept(engine: DuckLake, connection: duckdb.DuckDBPyConnection) -> int:
    """Sweep the list of versions, to which writers only add, in a transaction of its own. Raises Conflict."""
    try:
        connection.begin()
        found = engine.versions(connection).sweep()
        connection.commit()
    except duckdb.Error as error:
        with suppress(duckdb.Error):
            connection.rollback()
        raise engine.meaning(error) from error
    return found


def _tables(connection: duckdb.DuckDBPyConnection, engine: DuckLake) -> list[tuple[str, str]]:
    """The tables, without guards, which hold one row, and kept versions, which nobody reads in every tick."""
    query = (
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() "
        "AND schema_name NOT IN (?, ?) ORDER BY ALL"
    )
    return connection.execute(query, [GUARDS, f"{engine.schema}_versions"]).fetchall()


def _called(
    engine: DuckLake, connection: duckdb.DuckDBPyConnection, function: str, arguments: str, *values: object
) -> int:
    """Call one of DuckLake's functions in a transaction of its own; how many rows it gave."""
    try:
        return len(connection.execute(f"CALL ducklake_{function}('{LAKE}', {arguments})", list(values)).fetchall())
    except duckdb.Error as error:
        with suppress(duckdb.Error):
            connection.rollback()
        raise engine.meaning(error) from error
