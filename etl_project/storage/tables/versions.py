"""Versions of partitions in a database: rows that were replaced, in tables beside the user's.

Belongs here: keeping what a write is about to delete, in its own transaction; letting go of what is too old, in the
same one; finding versions again. Does not belong here: which version a person means (`judging.versions`).

Each table has its versions in the schema `<home>_versions`, one table for each set of columns that it has had: a column
that is added or widened never touches what was kept before it. `etl_versions` says which version lies where. Nothing of
this exists before the first version is kept.

`etl_versions` is of all tables. Where writers of two tables would collide by deleting from it, an entry that goes is
told by a second one of the same version, which lies nowhere: rows are only added then, as to the commit records. Both
stay until somebody sweeps them.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import duckdb

from etl_project.storage.contract import Commit, Slice, Table, Version
from etl_project.storage.judging.row_tally import Rows
from etl_project.storage.judging.versions import not_kept
from etl_project.storage.sql import Binds, has_table, quote, text, unique
from etl_project.storage.tables.table import SqlTable

NAME = "etl_versions"

_COLUMNS = """(
    asset VARCHAR NOT NULL,
    partition_key VARCHAR NOT NULL,
    sequence BIGINT NOT NULL,
    version BIGINT NOT NULL,
    rows BIGINT NOT NULL,
    rows_in VARCHAR NOT NULL,
    replaced_at TIMESTAMP WITH TIME ZONE NOT NULL
)
"""

VERSION = "etl version"
"""Beside the columns of the table: which version a row belongs to."""

_IDS_A_WRITE = 1 << 20

_NOWHERE = ""
"""Where the rows of a version lie that has gone."""


class Replaced(NamedTuple):
    """One partition that is about to be replaced: its key, its position, its last commit and its rows."""

    key: str | None
    position: int
    sequence: int
    rows: int


class Entry(NamedTuple):
    """One kept version as the list of them has it."""

    asset: str
    partition_key: str
    sequence: int
    version: int
    rows: int
    rows_in: str
    replaced_at: datetime


class _Place(NamedTuple):
    version: int
    rows_in: str


class Versions:
    """The kept versions of the database that the connection looks at."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        home: str = "main",
        *,
        entries_stay: bool = False,
        longest_bytes: int | None = None,
    ) -> None:
        """`longest_bytes`: what the catalog takes as the name of a table; any length without."""
        self._longest_bytes = longest_bytes
        self._connection = connection
        self._home = home
        self._entries_stay = entries_stay
        self.schema = f"{home}_versions"
        self.name = f"{quote(home)}.{NAME}"
        self._kept = self.name
        if entries_stay:
            gone = f"SELECT version FROM {self.name} WHERE rows_in = {text(_NOWHERE)}"
            self._kept = f"(SELECT * FROM {self.name} WHERE version NOT IN ({gone}))"

    def keep(self, table: Table, there: SqlTable, rows: Rows, replaced: Sequence[Replaced], at: datetime) -> None:
        """Copy what the write is about to delete.

        Inside the caller's transaction: a kill leaves the rows where they are, and no version of them.
        """
        self._prepare()
        rows_in = self._place_for(there)
        first = secrets.randbits(40) * _IDS_A_WRITE
        columns = ", ".join(quote(column.name) for column in there.columns())
        binds = Binds()
        chosen = rows._replace(only=tuple(one.position for one in replaced))
        version = f"{first} + {chosen.placement.position(chosen.place, binds)}"
        self._connection.execute(
            f"INSERT INTO {self.qualified(rows_in)} ({columns}, {quote(VERSION)}) "
            f"SELECT {columns}, {version} FROM {chosen.relation} {chosen.where(binds)}",
            binds.values or None,
        )
        self.enter(
            [
                Entry(table.asset, one.key or "", one.sequence, first + one.position, one.rows, rows_in, at)
                for one in replaced
            ]
        )

    def enter(self, entries: Sequence[Entry]) -> None:
        """List versions whose rows are there, in the caller's transaction."""
        self._prepare()
        self._connection.executemany(f"INSERT INTO {self.name} VALUES (?, ?, ?, ?, ?, ?, ?)", list(entries))

    def entries(self, asset: str) -> list[Entry]:
        """The kept versions of an asset."""
        if not has_table(self._connection, NAME, self._home):
            return []
        query = f"SELECT {', '.join(Entry._fields)} FROM {self._kept} WHERE asset = $asset ORDER BY version"
        return [Entry(*row) for row in self._all(query, asset=asset)]

    def drop(self, entries: Sequence[Entry]) -> None:
        """Let go of these versions, in the caller's transaction."""
        self._let_go([_Place(one.version, one.rows_in) for one in entries])

    def place(self, name: str, columns: Sequence[tuple[str, str]]) -> str:
        """The table for rows of versions from another database, made where there is none; gives its name here."""
        if self._longest_bytes is not None and len(name.encode()) > self._longest_bytes:
            name = _shortened(name)
        if not has_table(self._connection, name, self.schema):
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(self.schema)}")
            made = ", ".join(f"{quote(column)} {kind}" for column, kind in columns)
            self._connection.execute(f"CREATE TABLE {self.qualified(name)} ({made})")
        return name

    def of(self, table: Table, key: str | None, history: Sequence[Commit]) -> list[Version]:
        """The kept versions of a partition, oldest first."""
        if not has_table(self._connection, NAME, self._home):
            return []
        records = {commit.sequence: commit for commit in history}
        query = (
            f"SELECT sequence, rows FROM {self._kept} WHERE asset = $asset AND partition_key = $key ORDER BY sequence"
        )
        found = self._all(query, asset=table.asset, key=key or "")
        return [Version(sequence, rows, records.get(sequence)) for sequence, rows in found]

    def read(self, table: Table, key: str | None, sequence: int, identity: str) -> Slice:
        """A slice of one version. Raises ReadRefused where it is not kept."""
        query = (
            f"SELECT version, rows_in FROM {self._kept} "
            "WHERE asset = $asset AND partition_key = $key AND sequence = $sequence"
        )
        there = has_table(self._connection, NAME, self._home)
        found = self._all(query, asset=table.asset, key=key or "", sequence=sequence) if there else []
        if not found:
            raise not_kept(table, key, sequence)
        version, rows_in = found[0]
        relation = self._connection.sql(f"SELECT * EXCLUDE {quote(VERSION)} FROM {self.qualified(rows_in)}")
        columns = ", ".join(map(quote, relation.columns))
        nothing = ", ".join(
            f"NULL::{kind} AS {quote(name)}" for name, kind in zip(relation.columns, relation.types, strict=True)
        )
        name = unique("version")
        gone = text(str(not_kept(table, key, sequence)))
        # A version without rows, and one that is gone by now, are told apart by its entry: the second is an error.
        still_kept = f"SELECT count(*) AS n FROM {self._kept} WHERE version = ${name}"
        return Slice(
            f"SELECT {columns} FROM {self.qualified(rows_in)} WHERE {quote(VERSION)} = ${name} UNION ALL "
            f"SELECT {nothing} FROM ({still_kept}) WHERE CASE WHEN n = 0 THEN error({gone}) IS NULL ELSE false END",
            {name: version},
            identity,
        )

    def forget(self, table: Table, keys: Sequence[str | None], at: datetime) -> None:
        """Let go of what is more than the table keeps; versions of the asset's former name count with its own.

        After the rows are written, which may come from the very version that goes.
        """
        query = (
            f"SELECT version, rows_in FROM {self._kept} WHERE asset IN ($asset, $former) "
            "AND partition_key IN (SELECT unnest($keys::VARCHAR[])) "
            "QUALIFY row_number() OVER (PARTITION BY partition_key ORDER BY replaced_at DESC, sequence DESC) > $keep "
            "OR replaced_at < $oldest"
        )
        age = None if table.keep_versions_days is None else at - timedelta(days=table.keep_versions_days)
        former, stored = table.renamed_from or table.asset, [key or "" for key in keys]
        found = self._all(query, asset=table.asset, former=former, keys=stored, keep=table.keep_versions, oldest=age)
        gone = [_Place(*row) for row in found]
        if gone:
            self._let_go(gone)

    def _prepare(self) -> None:
        if not has_table(self._connection, NAME, self._home):
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS {self.name} {_COLUMNS}")

    def _let_go(self, gone: Sequence[_Place]) -> None:
        self._cross_out([one.version for one in gone])
        for rows_in in sorted({one.rows_in for one in gone}):
            self._remove(rows_in, [one.version for one in gone if one.rows_in == rows_in])

    def sweep(self) -> int:
        """Remove the entries of versions that have gone; gives how many versions they told of.

        Inside the caller's transaction, the only one that deletes entries where they stay: two of them collide.
        """
        if not has_table(self._connection, NAME, self._home):
            return 0
        gone = f"SELECT version FROM {self.name} WHERE rows_in = {text(_NOWHERE)}"
        [[count]] = self._all(f"SELECT count(DISTINCT version) FROM ({gone})")
        if count:
            self._connection.execute(f"DELETE FROM {self.name} WHERE version IN ({gone})")
        return int(count)

    def _cross_out(self, versions: Sequence[int]) -> None:
        chosen = f"FROM {self.name} WHERE version IN (SELECT unnest($gone::BIGINT[]))"
        if self._entries_stay:
            added = "SELECT asset, partition_key, sequence, version, rows, $nowhere, replaced_at"
            self._all(f"INSERT INTO {self.name} {added} {chosen}", gone=list(versions), nowhere=_NOWHERE)
        else:
            self._all(f"DELETE {chosen}", gone=list(versions))

    def _remove(self, rows_in: str, versions: Sequence[int]) -> None:
        """Delete rows of versions; the whole table where nothing else is in it."""
        if not self._all(f"SELECT 1 FROM {self._kept} WHERE rows_in = $rows_in LIMIT 1", rows_in=rows_in):
            self._connection.execute(f"DROP TABLE {self.qualified(rows_in)}")
            return
        self._all(
            f"DELETE FROM {self.qualified(rows_in)} WHERE {quote(VERSION)} IN (SELECT unnest($gone::BIGINT[]))",
            gone=list(versions),
        )

    def _place_for(self, there: SqlTable) -> str:
        """The table for rows with these columns, made where there is none; its name tells them."""
        layout = json.dumps([[column.name, str(column.type)] for column in there.columns()])
        digest = hashlib.sha256(layout.encode()).hexdigest()[:12]
        name = f"{there.schema}.{there.table.name}.{digest}".lower()
        if self._longest_bytes is not None and len(name.encode()) > self._longest_bytes:
            name = _shortened(name)
        if not has_table(self._connection, name, self.schema):
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(self.schema)}")
            columns = ", ".join(quote(column.name) for column in there.columns())
            self._connection.execute(
                f"CREATE TABLE {self.qualified(name)} AS "
                f"SELECT {columns}, 0::BIGINT AS {quote(VERSION)} FROM {there.name} WHERE false"
            )
        return name

    def qualified(self, rows_in: str) -> str:
        """The table with rows of versions, as SQL names it."""
        return f"{quote(self.schema)}.{quote(rows_in)}"

    def _all(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        bound: Mapping[str, Any] = values
        return self._connection.execute(query, dict(bound) or None).fetchall()


def _shortened(name: str) -> str:
    return f"versions.{hashlib.sha256(name.encode()).hexdigest()[:40]}"
