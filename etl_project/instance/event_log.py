"""Event storage: Dagster's SQLite event log with its connections kept open between events.

Dagster opens a new engine for every event: it compiles the same statements again, and closing the only connection
writes the whole log back to the database file and waits for the disk. A range run stores an event for each asset, check
and day, so this is most of its time. Nothing else is changed: the same files, tables and queries.

A kill of the process loses nothing. A power cut may lose the last events; what was done is said by the commit records,
not by events.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageMetadata,
    SqlEventLogStorageTable,
)
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy import Engine, bindparam, create_engine, event, inspect, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.pool import QueuePool

from etl_project import sqlite_log

BATCH_SIZE = 1000
"""So many events of one asset or check, or planned for one run, are written at once. A kill loses those that were not:
what was done is said by the commit records, and `etl verify --repair` writes the events of commits that lack theirs."""

OPEN_FILES = 3
"""The index, the run at work and one more: a process that reads many runs keeps no more than these open."""


_ENDS = tuple(
    kind.value
    for kind in (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED)
)


_EVALUATED = dg.DagsterEventType.ASSET_CHECK_EVALUATION

_INSERTED = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)

_CHECKS = AssetCheckExecutionsTable.c
_SAID = ("execution_status", "evaluation_event", "evaluation_event_timestamp", "evaluation_event_storage_id")
_RESULT_OF_PLANNED = (
    AssetCheckExecutionsTable.update()
    .where(
        (_CHECKS.asset_key == bindparam("of_asset_key"))
        & (_CHECKS.check_name == bindparam("of_check_name"))
        & (_CHECKS.run_id == bindparam("of_run_id"))
        & _CHECKS.partition.is_(bindparam("of_partition"))  # Also that of no partition.
    )
    .values({name: bindparam(f"of_{name}") for name in (*_SAID, "materialization_event_storage_id")})
)


class KeptOpenEventLogStorage(SqliteEventLogStorage):
    """Stores and reads events like Dagster's own class, at a fraction of the cost for each."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._under_way: dict[str, Connection] = {}
        self._seen: set[str] = set()
        self._stamp: str | None = None
        super().__init__(*arguments, **options)
        self._db_lock = threading.RLock()  # type: ignore[assignment]  # A batch holds two files at a time.

    @property
    def _logs(self) -> bool:
        return sqlite_log.fits(Path(self._base_dir))

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        """A transaction on the file of a run, or on the index of all; within one on the same file, a part of that."""
        with self._db_lock:
            if shard in self._under_way:
                yield self._under_way[shard]
                return
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                self._under_way[shard] = connection
                try:
                    yield connection
                finally:
                    del self._under_way[shard]

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:
        """As Dagster's own, which reads its migrations for every file, be it stamped already or the next that is made.

        The first file that this process makes is made and stamped by Dagster, the next ones like it in one transaction.
        """
        if _stamp_of(engine) is not None:
            return
        if self._stamp is None or inspect(engine).get_table_names():
            super()._initdb(engine, for_index_shard)
            self._stamp = _stamp_of(engine)
        else:
            _make(engine, self._stamp)
        if not self._logs:
            with engine.connect() as connection:
                connection.execute(text("PRAGMA journal_mode = DELETE"))

    def has_table(self, table_name: str) -> bool:
        """Whether there is such a table. Dagster asks with every event, and none ever goes away."""
        if table_name not in self._seen and super().has_table(table_name):
            self._seen.add(table_name)
        return table_name in self._seen

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        """As `has_table`, for a column of the table of assets."""
        column = f"asset_keys.{column_name}"
        if column not in self._seen and super()._has_asset_key_col_on_connection(conn, column_name):
            self._seen.add(column)
        return column in self._seen

    def store_event(self, event: EventLogEntry) -> None:
        """As Dagster's own, with one transaction on the index instead of one for each table."""
        if _is_of_a_check(event):
            with self.index_connection():
                super().store_event(event)
        else:
            super().store_event(event)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """As if each was stored on its own; events of assets and checks in one run in one transaction a file.

        Of an asset's last event of a kind the index holds more than of the others, so only that one is told in full.
        Where one of the two files cannot be written, neither is: Dagster stores the events one by one then.
        """
        mirrored = all(_is_of_an_asset(event) or _is_of_a_check(event) for event in events)
        if mirrored and len({event.run_id for event in events}) == 1:
            self._store_mirrored(events)
        else:
            super().store_event_batch(events)

    def _store_mirrored(self, events: Sequence[EventLogEntry]) -> None:
        rows = [self._event_to_row(event) for event in events]
        with self.run_connection(events[0].run_id) as of_run:
            of_run.execute(SqlEventLogStorageTable.insert(), rows)
            with self.index_connection() as index:
                ids = _inserted(index, rows)
                of_assets = [n for n, event in enumerate(events) if _is_of_an_asset(event)]
                self._store_asset_event_tags(index, [events[n] for n in of_assets], [ids[n] for n in of_assets])
                last = {(rows[n]["asset_key"], rows[n]["dagster_event_type"]): n for n in of_assets}
                for n in sorted(last.values()):
                    self._store_asset_event(index, events[n], ids[n])
                of_checks = [n for n, event in enumerate(events) if _is_of_a_check(event)]
                for evaluated, some in groupby(of_checks, lambda n: events[n].dagster_event_type is _EVALUATED):
                    group = [(events[n], ids[n], rows[n]) for n in some]
                    if not (evaluated and self._store_results(index, group)):
                        for event, id_, _ in group:
                            self.store_asset_check_event(event, id_)

    def _store_results(self, index: Connection, group: Sequence[tuple[EventLogEntry, int, Mapping[str, Any]]]) -> bool:
        """Store what checks said in a run: in the place of what was planned for the partition, or by itself.

        False where Dagster's own class has to: without a run, and to say what is wrong where one is planned twice.
        """
        results = [_result(*one) for one in group]
        asked = select(_CHECKS.asset_key, _CHECKS.check_name, _CHECKS.partition).where(
            (_CHECKS.run_id == group[0][0].run_id)
            & _CHECKS.asset_key.in_({one["asset_key"] for one in results})
            & _CHECKS.check_name.in_({one["check_name"] for one in results})  # Else the index is read for every run.
        )
        found = [tuple(row) for row in index.execute(asked)]
        there = set(found)
        if not group[0][0].run_id or len(there) < len(found):
            return False
        new: list[dict[str, Any]] = []
        known: list[dict[str, Any]] = []
        for result in results:
            key = result["asset_key"], result["check_name"], result["partition"]
            (known if key in there else new).append(result)
            there.add(key)
        if new:
            index.execute(AssetCheckExecutionsTable.insert(), new)
        if known:
            index.execute(_RESULT_OF_PLANNED, [{f"of_{name}": value for name, value in one.items()} for one in known])
        return True

    def get_latest_asset_partition_materialization_attempts_without_materializations(
        self, asset_key: dg.AssetKey, after_storage_id: int | None = None
    ) -> Mapping[str, tuple[str, int]]:
        """As Dagster's own, without the attempts that never began: their run ended before it came to the asset.

        A day that was refused at the top of the graph is red there, and not in every table below, which only lacks it.
        """
        attempts = super().get_latest_asset_partition_materialization_attempts_without_materializations(
            asset_key, after_storage_id
        )
        runs = {run_id for run_id, _ in attempts.values()}
        never_began = {run_id for run_id in runs if self._ended_without(run_id, asset_key)}
        return {partition: attempt for partition, attempt in attempts.items() if attempt[0] not in never_began}

    def _ended_without(self, run_id: str, asset_key: dg.AssetKey) -> bool:
        """Whether the run has ended, and no step that was planned to materialize the asset has started."""
        events = SqlEventLogStorageTable.c
        planned = select(events.step_key).where(
            events.run_id == run_id,
            events.asset_key == asset_key.to_string(),
            events.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value,
        )
        with self.index_connection() as connection:
            steps = {step for (step,) in connection.execute(planned.distinct())}
        types = [dg.DagsterEventType.STEP_START.value, *_ENDS]
        told = select(events.dagster_event_type, events.step_key).where(events.dagster_event_type.in_(types))
        with self.run_connection(run_id) as connection:
            found = connection.execute(told).all()
        return any(kind in _ENDS for kind, _ in found) and not any(step in steps for _, step in found if step)

    def _engine(self, shard: str) -> Engine:
        if shard not in self._engines:
            engine = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=QueuePool,
                pool_size=1,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            if self._logs:
                event.listen(engine, "connect", _leave_flushing_to_the_log)
            self._engines[shard] = engine
        self._engines.move_to_end(shard)
        while len(self._engines) > OPEN_FILES:
            self._engines.popitem(last=False)[1].dispose()
        return self._engines[shard]

    def dispose(self) -> None:
        """Close every file."""
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()
        super().dispose()


def _stamp_of(engine: Engine) -> str | None:
    """The version of its schema that a file is stamped with."""
    with engine.connect() as connection:
        there = engine.dialect.has_table(connection, "alembic_version")
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() if there else None


def _make(engine: Engine, stamp: str) -> None:
    """All tables and the stamp in an empty file, or nothing: a kill leaves an empty file, which is made anew.

    Two processes may come to a run's first event, or its first look, at once: the second finds the file made.
    """
    with engine.connect() as connection:
        connection.execute(text("PRAGMA journal_mode=WAL"))
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # Else SQLite's driver commits after each table.
        if engine.dialect.has_table(connection, "alembic_version"):
            return
        SqlEventLogStorageMetadata.create_all(connection)
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:stamp)"), {"stamp": stamp})


def _is_of_an_asset(event: EventLogEntry) -> bool:
    """Whether Dagster mirrors the event in the index for its asset, and does nothing else with it."""
    kind = event.dagster_event_type
    return kind in ASSET_EVENTS and event.get_dagster_event().asset_key is not None


def _is_of_a_check(event: EventLogEntry) -> bool:
    """Whether Dagster mirrors the event in the index for its check, and does nothing else with it."""
    return event.dagster_event_type in ASSET_CHECK_EVENTS


def _inserted(index: Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """The ids of new rows, in their order. SQLite before 3.35 gives them only one by one."""
    if index.dialect.insert_returning:
        return list(index.execute(_INSERTED, rows).scalars())
    keys = [index.execute(SqlEventLogStorageTable.insert(), row).inserted_primary_key for row in rows]
    return [int(key[0]) for key in keys if key is not None]


def _result(event: EventLogEntry, id_: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """What Dagster's table of checks holds of an evaluation."""
    evaluation = event.get_dagster_event().asset_check_evaluation_data
    status = AssetCheckExecutionRecordStatus.SUCCEEDED if evaluation.passed else AssetCheckExecutionRecordStatus.FAILED
    target = evaluation.target_materialization_data
    return {
        "asset_key": evaluation.asset_key.to_string(),
        "check_name": evaluation.check_name,
        "run_id": event.run_id,
        "partition": evaluation.partition,
        "execution_status": status.value,
        "evaluation_event": row["event"],
        "evaluation_event_timestamp": row["timestamp"],
        "evaluation_event_storage_id": id_,
        "materialization_event_storage_id": target.storage_id if target else None,
    }


def _leave_flushing_to_the_log(connection: Any, _record: Any) -> None:
    """In WAL mode this makes a commit one append: complete after a kill, and never a torn file after a power cut."""
    connection.execute("PRAGMA synchronous=NORMAL")
