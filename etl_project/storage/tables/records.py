"""Commit records as rows: one per (asset, partition) and commit, in the same transaction as the rows themselves.

Belongs here: the table `etl_commits`, claiming the next record of a partition, and reading records back, in whatever
catalog an engine has opened. The primary key (asset, partition, sequence) is what makes two writers of one partition
collide, an empty one included: snapshots alone would let both win. An engine without keys needs a fence of its own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import duckdb

from etl_project.storage.contract import CARRIED, Commit, Head
from etl_project.storage.judging.commits import deviation_of, restored_of
from etl_project.storage.sql import Binds, has_table, quote
from etl_project.utc import UTC

NAME = "etl_commits"

_COLUMNS = """(
    asset VARCHAR NOT NULL,
    partition_key VARCHAR NOT NULL,
    sequence BIGINT NOT NULL,
    run_id VARCHAR NOT NULL,
    code_version VARCHAR,
    input_hash VARCHAR NOT NULL,
    fingerprint VARCHAR NOT NULL,
    rows_before BIGINT NOT NULL,
    rows BIGINT NOT NULL,
    rows_added BIGINT,
    rows_removed BIGINT,
    rows_kept BIGINT,
    changed BOOLEAN NOT NULL,
    committed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    schema_changes VARCHAR[] NOT NULL,
    deviation VARCHAR{key}
)
"""
_KEY = ", PRIMARY KEY (asset, partition_key, sequence)"

_TYPES = {
    **dict.fromkeys(("asset", "partition_key"), "VARCHAR"),
    "sequence": "BIGINT",
    **dict.fromkeys(("run_id", "code_version", "input_hash", "fingerprint"), "VARCHAR"),
    **dict.fromkeys(("rows_before", "rows", "rows_added", "rows_removed", "rows_kept"), "BIGINT"),
    "changed": "BOOLEAN",
    "committed_at": "TIMESTAMP WITH TIME ZONE",
    "schema_changes": "VARCHAR[]",
    "deviation": "VARCHAR",
}

_RESTORED = "restored"
"""A column that only databases have in which rows were brought back."""

KNOWN = frozenset({_RESTORED, *_TYPES})
"""Every column that a database of this version, or of an earlier one, has."""

_NEWEST = "QUALIFY row_number() OVER (PARTITION BY asset, partition_key ORDER BY sequence DESC) = 1"


class Records:
    """The commit records of the database that the connection looks at, in one of its schemas."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, schema: str = "main", keyed: bool = True) -> None:
        """`keyed`: whether the catalog keeps a primary key."""
        self._connection = connection
        self._schema = schema
        self._keyed = keyed
        self.name = f"{quote(schema)}.{NAME}"

    def prepare(self) -> None:
        """Make sure that the table is there and has all its columns, inside the caller's transaction.

        What a table of an earlier version lacks is added; readers do without it.
        """
        there = self.columns()
        if not there:
            columns = _COLUMNS.format(key=_KEY if self._keyed else "")
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS {self.name} {columns}")
        elif "deviation" not in there:
            self._connection.execute(f"ALTER TABLE {self.name} ADD COLUMN IF NOT EXISTS deviation VARCHAR")

    def columns(self) -> set[str]:
        """The columns that the table has; none where it is not there."""
        return set(self._connection.sql(f"FROM {self.name}").columns) if self.exist() else set()

    def exist(self) -> bool:
        """Whether this database has commit records at all. From DuckDB 2.0 on a query of what is not there would end
        the transaction."""
        return has_table(self._connection, NAME, self._schema)

    def claim(self, commits: Sequence[Commit]) -> None:
        """Write the records; a second writer of one of the partitions fails here or when it commits."""
        types = _TYPES
        if any(commit.restored is not None for commit in commits):
            # Made when it is needed first: a database in which nothing was ever brought back stays as it is.
            if _RESTORED not in self.columns():
                self._connection.execute(f"ALTER TABLE {self.name} ADD COLUMN IF NOT EXISTS {_RESTORED} VARCHAR")
            types = {**_TYPES, _RESTORED: "VARCHAR"}
        rows, binds = [_row(commit) for commit in commits], Binds()
        # As lists: to register an Arrow table takes longer than to insert the few rows that it has.
        values = [f"unnest({binds.add([row[name] for row in rows])}::{kind}[])" for name, kind in types.items()]
        statement = f"INSERT INTO {self.name} ({', '.join(types)}) SELECT {', '.join(values)}"
        self._connection.execute(statement, binds.values)

    def last(
        self, assets: Iterable[str] | None = None, partitions: Collection[str | None] | None = None
    ) -> dict[tuple[str, str | None], Commit]:
        """The newest record of every (asset, partition), or of the given ones; none where there are no records."""
        if not self.exist():
            return {}
        binds = Binds()
        where = []
        if assets is not None:
            where.append(_among("asset", list(assets), binds))
        if partitions is not None:
            where.append(_among("partition_key", [_stored(key) for key in partitions], binds))
        query = f"SELECT * FROM {self.name} {'WHERE ' + ' AND '.join(where) if where else ''} {_NEWEST}"
        return {(commit.asset, commit.partition): commit for commit in self._commits(query, binds.values)}

    def last_alike(self, records: Collection[Commit]) -> dict[tuple[str, str | None], Commit]:
        """For each of these, the newest record there with the same input hash and code version, where there is one.

        None from before rows were carried over to other columns.
        """
        binds = Binds()
        columns = (
            [record.asset for record in records],
            [_stored(record.partition) for record in records],
            [record.input_hash for record in records],
            [record.code_version for record in records],
        )
        wanted = ", ".join(f"unnest({binds.add(values)}::VARCHAR[])" for values in columns)
        where = f"WHERE (asset, partition_key, input_hash, code_version) IN (SELECT {wanted})"
        since = (
            f"AND NOT EXISTS (FROM {self.name} AS later "
            "WHERE later.asset = one.asset AND later.partition_key = one.partition_key "
            f"AND later.sequence > one.sequence AND ends_with(later.code_version, {binds.add(CARRIED)}))"
        )
        found = self._commits(f"SELECT * FROM {self.name} AS one {where} {since} {_NEWEST}", binds.values)
        return {(commit.asset, commit.partition): commit for commit in found}

    def history(self, asset: str, partition: str | None) -> list[Commit]:
        """All records of one partition, oldest first; none where there are no records."""
        if not self.exist():
            return []
        query = f"SELECT * FROM {self.name} WHERE asset = $asset AND partition_key = $key ORDER BY sequence"
        return self._commits(query, {"asset": asset, "key": _stored(partition)})

    def every(self, asset: str) -> list[Commit]:
        """All records of an asset, by partition, oldest first; none where there are no records."""
        if not self.exist():
            return []
        query = f"SELECT * FROM {self.name} WHERE asset = $asset ORDER BY partition_key, sequence"
        return self._commits(query, {"asset": asset})

    def assets(self) -> list[str]:
        """The assets that have records."""
        if not self.exist():
            return []
        return [name for (name,) in self._connection.execute(f"SELECT DISTINCT asset FROM {self.name}").fetchall()]

    def pinned(self, assets: Iterable[str]) -> list[Commit]:
        """The newest records of partitions of these assets whose rows were brought back."""
        if _RESTORED not in self.columns():
            return []
        query = f"SELECT * FROM {self.name} WHERE asset IN (SELECT unnest($assets::VARCHAR[])) {_NEWEST}"
        return self._commits(f"SELECT * FROM ({query}) WHERE {_RESTORED} IS NOT NULL", {"assets": list(assets)})

    def heads(self, assets: Iterable[str]) -> Iterator[tuple[str, str | None, Head]]:
        """The newest record of every partition of these assets, in short: tens of thousands of them in every tick."""
        if not self.exist():
            return
        query = (
            "SELECT asset, partition_key, input_hash, fingerprint, rows, epoch_us(committed_at) "
            f"FROM {self.name} WHERE asset IN (SELECT unnest(?::VARCHAR[])) {_NEWEST}"
        )
        for asset, key, *head in self._connection.execute(query, [list(assets)]).fetchall():
            yield asset, key or None, Head(*head)

    def _commits(self, query: str, values: Mapping[str, Any]) -> list[Commit]:
        """The records that a query over all columns gives, whatever columns the table has so far."""
        self._connection.execute(query, dict(values) or None)
        names = [column[0] for column in self._connection.description]
        return [_commit(dict(zip(names, row, strict=True))) for row in self._connection.fetchall()]


def _among(column: str, values: Sequence[str], binds: Binds) -> str:
    """SQL that is true for these values. One is compared with: a list is joined with, which costs a small day 4 %."""
    if len(values) == 1:
        return f"{column} = {binds.add(values[0])}"
    return f"{column} IN (SELECT unnest({binds.add(values)}::VARCHAR[]))"


def _stored(partition: str | None) -> str:
    """A primary key has no NULLs: the one partition of an unpartitioned table is stored as ''."""
    return partition or ""


def _row(commit: Commit) -> dict[str, Any]:
    deviation = None if commit.deviation is None else json.dumps(asdict(commit.deviation), ensure_ascii=False)
    restored = None if commit.restored is None else json.dumps(asdict(commit.restored), ensure_ascii=False)
    return {
        **vars(commit),
        "restored": restored,
        "partition_key": _stored(commit.partition),
        "schema_changes": list(commit.schema_changes),
        "deviation": deviation,
    }


def _commit(row: Mapping[str, Any]) -> Commit:
    values = {name: value for name, value in row.items() if name in Commit.__dataclass_fields__}
    values["partition"] = row["partition_key"] or None
    values["committed_at"] = values["committed_at"].astimezone(UTC)
    values["schema_changes"] = tuple(values["schema_changes"])
    found = values.get("deviation")
    values["deviation"] = None if found is None else deviation_of(json.loads(found))
    back = values.get(_RESTORED)
    values[_RESTORED] = None if back is None else restored_of(json.loads(back))
    return Commit(**values)
