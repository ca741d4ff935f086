"""Heads: the newest commit of every partition, in short, for looking at tens of thousands of them in every tick.

Belongs here: reading them from the warehouse and the lake as plain columns. Whoever needs a whole record asks the
store for `last_commits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from etl_project.storage.judging import commits

if TYPE_CHECKING:
    from etl_project.storage.lake.store import ParquetStore
    from etl_project.storage.tables.store import DuckDBStore

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Head(NamedTuple):
    """What the newest commit of a partition says. `committed_us`: microseconds since 1970 (UTC)."""

    input_hash: str
    fingerprint: str
    rows: int
    committed_us: int

    @property
    def committed_at(self) -> datetime:
        """When it was committed (UTC)."""
        return _EPOCH + timedelta(microseconds=self.committed_us)


Found = Iterator[tuple[str, str | None, Head]]
"""Asset, partition key and head."""


def of_tables(store: DuckDBStore, assets: Iterable[str]) -> Found:
    """The heads of these assets in the warehouse. Raises StoreBusy as `DuckDBStore.last_commits` does."""
    query = (
        "SELECT asset, partition_key, input_hash, fingerprint, rows, epoch_us(committed_at) "
        f"FROM {commits.TABLE} WHERE asset IN (SELECT unnest(?::VARCHAR[])) "
        "QUALIFY row_number() OVER (PARTITION BY asset, partition_key ORDER BY sequence DESC) = 1"
    )
    with store.look() as connection:
        if connection is None or not commits.exists(connection):
            return
        rows = connection.execute(query, [list(assets)]).fetchall()
    for asset, key, seen, fingerprint, count, committed_us in rows:
        yield asset, key or None, Head(seen, fingerprint, count, committed_us)


def names_of_tables(store: DuckDBStore) -> frozenset[str]:
    """The tables and views of the warehouse, in any schema, in lower case. Raises StoreBusy as `of_tables` does."""
    query = (
        "SELECT lower(table_name) FROM duckdb_tables() WHERE database_name = current_database() "
        "UNION SELECT lower(view_name) FROM duckdb_views() WHERE database_name = current_database()"
    )
    with store.look() as connection:
        return frozenset(name for (name,) in connection.execute(query).fetchall()) if connection else frozenset()


def of_files(store: ParquetStore, assets: Iterable[str]) -> Found:
    """The heads of these assets in the lake."""
    for commit in store.last_commits(assets).values():
        elapsed = commit.committed_at - _EPOCH
        microseconds = elapsed // timedelta(microseconds=1)
        yield commit.asset, commit.partition, Head(commit.input_hash, commit.fingerprint, commit.rows, microseconds)
