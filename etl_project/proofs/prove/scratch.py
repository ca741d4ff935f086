"""Scratch: a data folder on the side with just what one rebuild needs, copied from the real one.

Belongs here: copying the partitions that are read, with their commit records, the archived files of the day, and the
committed rows to compare with; and bringing copied rows into another order. Of the real stores it only reads, for as
long as the copying takes. An asset whose body reads what it does not declare finds less here than there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq

from etl_project.proofs.prove.subject import Subject
from etl_project.proofs.verify.targets import Stored
from etl_project.settings import Settings
from etl_project.storage import DuckDBStore, ParquetStore
from etl_project.storage.contract import StoreBusy, Table
from etl_project.storage.engines.duckdb_file import CONFIG, pauses
from etl_project.storage.judging import commits, judgement
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.lake.layout import Lake
from etl_project.storage.sql import Binds, quote, text
from etl_project.storage.tables import owners

REAL = "etl_real"
"""The name under which the real warehouse is attached."""


def lay_out(real: Settings, scratch: Settings, subject: Subject, targets: Iterable[Stored]) -> None:
    """Copy what the subject reads from the real data folder into an empty one.

    Raises StoreBusy (retrying helps) when a run holds the warehouse for longer than the wait setting.
    """
    read = [(target, subject.reads[target.asset]) for target in targets if target.asset in subject.reads]
    for source in subject.sources:
        files = real.archive / source / subject.key
        if files.is_dir():
            shutil.copytree(files, scratch.archive / source / subject.key)
    for target, keys in read:
        if isinstance(target.store, ParquetStore):
            copy_files(target, keys, scratch.lake)
    with warehouse(scratch.warehouse, real) as connection:
        commits.prepare(connection)
        for target, keys in read:
            if isinstance(target.store, DuckDBStore):
                copy_rows(connection, target, keys)
                _copy_records(connection, target, keys)
        for target in subject.outputs:
            described = target.table.contract_sql is not None or target.asset in subject.reads
            if not described and isinstance(target.store, DuckDBStore):
                copy_rows(connection, target, ())  # Nothing says which types it has but the table itself.


def keep_committed(real: Settings, folder: Path, subject: Subject) -> None:
    """Copy the committed rows of the subject itself into a folder of their own."""
    target = subject.target
    if isinstance(target.store, ParquetStore):
        copy_files(target, [subject.key], folder / "lake")
        return
    folder.mkdir(parents=True)
    with warehouse(folder / "warehouse.duckdb", real) as connection:
        copy_rows(connection, target, [subject.key])


@contextmanager
def warehouse(path: Path, real: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A warehouse on the side, with the real one attached to be read; an empty one where there is none yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(duckdb.connect(str(path), config=dict(CONFIG))) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        _attach(connection, real)
        yield connection
        connection.execute(f"DETACH {REAL}")


def _attach(connection: duckdb.DuckDBPyConnection, real: Settings) -> None:
    """Attach the real warehouse for reading, waiting for whoever writes to it."""
    if not real.warehouse.exists():
        connection.execute(f"ATTACH ':memory:' AS {REAL}")
        return
    deadline = time.monotonic() + real.wait_seconds
    for pause in pauses():
        try:
            connection.execute(f"ATTACH {text(str(real.warehouse))} AS {REAL} (READ_ONLY)")
            return
        except duckdb.IOException as error:
            if time.monotonic() + pause > deadline:
                raise StoreBusy(
                    f"{real.warehouse} is held by another process ({error}); waited {real.wait_seconds:g} s. "
                    "Retrying helps once it is closed there."
                ) from error
            time.sleep(pause)


def copy_rows(connection: duckdb.DuckDBPyConnection, target: Stored, keys: Sequence[str | None]) -> None:
    """Copy these partitions of the real table, in their order; only its columns where none are given."""
    table = target.table
    if not _exists(connection, table):
        return
    schema = owners.schema_of(connection, table, REAL)
    relation = f"{REAL}.{quote(schema)}.{quote(table.name)}"
    binds, where = Binds(), "WHERE false"
    if keys:
        found = connection.sql(f"SELECT * FROM {relation}")
        columns = [Typed(c, quote(c), t) for c, t in zip(found.columns, found.types, strict=True)]
        scope = target.scope(keys)
        rows = judgement.placed(relation, columns, table, scope)._replace(only=range(len(scope.partitions)))
        where = rows.where(binds)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
    name = f"{quote(schema)}.{quote(table.name)}"
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM {relation} {where}", binds.values or None)
    owners.claim(connection, table, schema, made=True, held=list)


def copy_files(target: Stored, keys: Sequence[str | None], lake: Path) -> None:
    """Copy the files of these partitions; their commit records are inside."""
    if not isinstance(target.store, ParquetStore):
        raise TypeError(f"{target.asset} is not stored in files")
    for key in keys:
        file, copy = (Lake(root).path(target.table, key) for root in (target.store.root, lake))
        if file.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def mix(scratch: Settings, turn: int) -> None:
    """Bring all copied rows into another order: reversed in turn 1, shuffled in later ones. Contents stay the same."""
    with closing(duckdb.connect(str(scratch.warehouse), config=dict(CONFIG))) as connection:
        order = "rowid DESC" if turn == 1 else f"hash(rowid + {turn})"
        for schema, name in connection.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall():
            if name not in ("etl_commits", owners.TABLE):
                table = f"{quote(schema)}.{quote(name)}"
                connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM {table} ORDER BY {order}")
    for file in sorted(scratch.lake.rglob("*.parquet")):
        _mix_file(file, turn)


def _mix_file(file: Path, turn: int) -> None:
    kept = {name: value for name, value in (pq.read_metadata(file).metadata or {}).items() if name != b"ARROW:schema"}
    rows = pq.read_table(file, partitioning=None)
    order = np.arange(len(rows))[::-1] if turn == 1 else np.random.default_rng(turn).permutation(len(rows))
    pq.write_table(rows.take(order).replace_schema_metadata(kept), file)


def _copy_records(connection: duckdb.DuckDBPyConnection, target: Stored, keys: Sequence[str | None]) -> None:
    if _exists(connection, Table("", "etl_commits")):
        connection.execute(
            f"INSERT INTO {commits.TABLE} BY NAME SELECT * FROM {REAL}.{commits.TABLE} "
            "WHERE asset = $asset AND partition_key IN (SELECT unnest($keys::VARCHAR[]))",
            {"asset": target.asset, "keys": [key or "" for key in keys]},
        )


def _exists(connection: duckdb.DuckDBPyConnection, table: Table) -> bool:
    query = (
        "SELECT 1 FROM duckdb_tables() WHERE database_name = ? AND lower(schema_name) = lower(?) "
        "AND lower(table_name) = lower(?)"
    )
    return bool(connection.execute(query, [REAL, owners.schema_of(connection, table, REAL), table.name]).fetchall())
