"""Commit records: one row per (asset, partition) and commit, in the same transaction as the rows themselves.

Belongs here: the table `etl_commits`, claiming the next record of a partition, reading records back, and their JSON
form for stores whose record travels in a file. The primary key (asset, partition, sequence) is what makes two writers
of one partition collide, an empty one included: snapshots alone would let both win.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from etl_project.storage.contract import Commit, Deviation, Example
from etl_project.storage.sql import Binds, unique

TABLE = "main.etl_commits"

_CREATE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
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
    deviation VARCHAR,
    PRIMARY KEY (asset, partition_key, sequence)
)
"""

_ARROW = pa.schema(
    [
        ("asset", pa.string()),
        ("partition", pa.string()),
        ("sequence", pa.int64()),
        ("run_id", pa.string()),
        ("code_version", pa.string()),
        ("input_hash", pa.string()),
        ("fingerprint", pa.string()),
        ("rows_before", pa.int64()),
        ("rows", pa.int64()),
        ("rows_added", pa.int64()),
        ("rows_removed", pa.int64()),
        ("rows_kept", pa.int64()),
        ("changed", pa.bool_()),
        ("committed_at", pa.timestamp("us", tz="UTC")),
        ("schema_changes", pa.list_(pa.string())),
        ("deviation", pa.string()),
    ]
)

_SELECT = ", ".join("partition_key" if name == "partition" else name for name in _ARROW.names)


_ADDED = f"ALTER TABLE {TABLE} ADD COLUMN IF NOT EXISTS deviation VARCHAR"
"""What a table of an earlier version lacks. Readers do without it."""


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Make sure that the table is there and has all its columns, inside the caller's transaction."""
    connection.execute(_CREATE)
    connection.execute(_ADDED)


def exists(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether this database has commit records at all."""
    query = (
        "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() "
        "AND schema_name = 'main' AND table_name = 'etl_commits'"
    )
    return bool(connection.execute(query).fetchall())


def claim(connection: duckdb.DuckDBPyConnection, commits: Sequence[Commit]) -> None:
    """Write the records; a second writer of one of the partitions fails here or when it commits."""
    name = unique("etl_claims")
    rows = [_row(commit) for commit in commits]
    connection.register(name, pa.Table.from_pylist(rows, schema=_ARROW))
    try:
        connection.execute(f"INSERT INTO {TABLE} ({_SELECT}) SELECT * FROM {name}")
    finally:
        connection.unregister(name)


def last(
    connection: duckdb.DuckDBPyConnection,
    assets: Iterable[str] | None = None,
    partitions: Collection[str | None] | None = None,
) -> dict[tuple[str, str | None], Commit]:
    """The newest record of every (asset, partition), or of the given ones."""
    binds = Binds()
    where = []
    if assets is not None:
        where.append(f"asset IN (SELECT unnest({binds.add(list(assets))}::VARCHAR[]))")
    if partitions is not None:
        keys = [_stored(key) for key in partitions]
        where.append(f"partition_key IN (SELECT unnest({binds.add(keys)}::VARCHAR[]))")
    query = (
        f"SELECT * FROM {TABLE} {'WHERE ' + ' AND '.join(where) if where else ''} "
        "QUALIFY row_number() OVER (PARTITION BY asset, partition_key ORDER BY sequence DESC) = 1"
    )
    return {(commit.asset, commit.partition): commit for commit in _commits(connection, query, binds.values)}


def last_alike(
    connection: duckdb.DuckDBPyConnection, records: Collection[Commit]
) -> dict[tuple[str, str | None], Commit]:
    """For each of these records, the newest one there with the same input hash and code version, where there is one."""
    binds = Binds()
    columns = (
        [record.asset for record in records],
        [_stored(record.partition) for record in records],
        [record.input_hash for record in records],
        [record.code_version for record in records],
    )
    wanted = ", ".join(f"unnest({binds.add(values)}::VARCHAR[])" for values in columns)
    query = (
        f"SELECT * FROM {TABLE} WHERE (asset, partition_key, input_hash, code_version) IN (SELECT {wanted}) "
        "QUALIFY row_number() OVER (PARTITION BY asset, partition_key ORDER BY sequence DESC) = 1"
    )
    return {(commit.asset, commit.partition): commit for commit in _commits(connection, query, binds.values)}


def history(connection: duckdb.DuckDBPyConnection, asset: str, partition: str | None) -> list[Commit]:
    """All records of one partition, oldest first."""
    query = f"SELECT * FROM {TABLE} WHERE asset = $asset AND partition_key = $key ORDER BY sequence"
    return _commits(connection, query, {"asset": asset, "key": _stored(partition)})


def to_json(commit: Commit) -> str:
    """The record as text; `from_json` gives it back."""
    return json.dumps(to_fields(commit))


def from_json(text: str) -> Commit:
    """The record that `to_json` wrote; fields that a later version added are passed over."""
    return from_fields(json.loads(text))


def to_fields(commit: Commit) -> dict[str, Any]:
    """The record as what JSON can hold."""
    deviation = None if commit.deviation is None else asdict(commit.deviation)
    return {**vars(commit), "committed_at": commit.committed_at.isoformat(), "deviation": deviation}


def from_fields(fields: Mapping[str, Any]) -> Commit:
    """The record that `to_fields` gave, or an earlier version of it."""
    values = {name: value for name, value in fields.items() if name in Commit.__dataclass_fields__}
    values["committed_at"] = datetime.fromisoformat(values["committed_at"])
    values["schema_changes"] = tuple(values["schema_changes"])
    values["deviation"] = _deviation(values.get("deviation"))
    return Commit(**values)


def _deviation(fields: Mapping[str, Any] | None) -> Deviation | None:
    if fields is None:
        return None
    examples = tuple(Example(example["old"], example["new"]) for example in fields["examples"])
    repeats = fields.get("repeats", 0)  # Records of an earlier version have none.
    return Deviation(fields["fingerprint"], tuple(fields["columns"]), examples, fields["note"], repeats)


def _stored(partition: str | None) -> str:
    """A primary key has no NULLs: the one partition of an unpartitioned table is stored as ''."""
    return partition or ""


def _row(commit: Commit) -> dict[str, Any]:
    deviation = None if commit.deviation is None else json.dumps(asdict(commit.deviation), ensure_ascii=False)
    return {
        **vars(commit),
        "partition": _stored(commit.partition),
        "schema_changes": list(commit.schema_changes),
        "deviation": deviation,
    }


def _commits(connection: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, Any]) -> list[Commit]:
    """The records that a query over all columns gives, whatever columns the table has so far."""
    connection.execute(query, dict(values) or None)
    names = [column[0] for column in connection.description]
    return [_commit(dict(zip(names, row, strict=True))) for row in connection.fetchall()]


def _commit(row: Mapping[str, Any]) -> Commit:
    values = {name: value for name, value in row.items() if name in Commit.__dataclass_fields__}
    values["partition"] = row["partition_key"] or None
    values["committed_at"] = values["committed_at"].astimezone(UTC)
    values["schema_changes"] = tuple(values["schema_changes"])
    found = values.get("deviation")
    values["deviation"] = None if found is None else _deviation(json.loads(found))
    return Commit(**values)
