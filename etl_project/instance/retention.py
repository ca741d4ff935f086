"""Retention: which finished runs Dagster's history can do without, and taking them out of it.

Belongs here: runs, their events and files, in the order in which a kill leaves nothing that stays behind for ever. Does
not belong here: which requests somebody may still ask about (`watch.maintain`). No row, commit or file of data is
touched: those say what is done, and the history only tells of it.

A run is kept whole while it is young, unfinished, one of the newest, part of a backfill that goes on, or asked for by
the caller. One that made the last materialization of some partition keeps its place and its events of assets, which
`etl verify` compares with the commits, and loses what its steps said; so does one whose verdict on a partition counts,
because the partition was not made again since.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as db
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.tags import BACKFILL_ID_TAG

from etl_project import faults, utc
from etl_project.failures import Permanent

NEWEST_KEPT = 50
"""So many of the newest runs stay, however old they are: a quiet project keeps a history to look at."""

_LASTING = (dg.DagsterEventType.ASSET_MATERIALIZATION.value, dg.DagsterEventType.ASSET_OBSERVATION.value)
_AFTER_ALL = "\U0010ffff"
_AT_ONCE = timedelta(seconds=1)
"""The storage notes verdicts by the second: what is as close as this counts as not overtaken."""

_PAGE = 1_000
_WORTH_PACKING = 0.2
_PACK_WAIT_SECONDS = 5.0


class CannotMaintain(Permanent):
    """The history lies in a storage that cannot be asked in SQL. Retrying does not help."""


@dataclass(frozen=True)
class Plan:
    """`removed` runs go; of `trimmed` ones only what their steps said; `kept` is the number of all others."""

    removed: tuple[str, ...] = ()
    trimmed: tuple[str, ...] = ()
    kept: int = 0
    size_bytes: int = field(default=0, compare=False)
    """What the files of all these runs take."""


def plan(
    instance: dg.DagsterInstance, before: datetime, state_tags: Collection[str] = (), states: Collection[str] = ()
) -> Plan:
    """What can go of the runs that ended before this instant (aware). Looks, and changes nothing.

    Runs one of whose `state_tags` has one of these `states` are kept whole. Raises CannotMaintain (retrying does not
    help).
    """
    events = _sql(instance)
    places = _Places(instance)
    needed = _Needed(events)
    backfills = {
        backfill.backfill_id
        for backfill in instance.get_backfills(
            filters=BulkActionsFilter(
                statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]
            )
        )
    }
    removed, trimmed, kept, size_bytes = [], [], 0, 0
    for number, record in enumerate(_records(instance)):
        run = record.dagster_run
        if (
            number < NEWEST_KEPT
            or not run.is_finished
            or record.update_timestamp.timestamp() >= before.timestamp()
            or any(run.tags.get(tag) in states for tag in state_tags)
            or run.tags.get(BACKFILL_ID_TAG) in backfills
        ):
            kept += 1
        elif not needed.holds(run):
            removed.append(run.run_id)
            size_bytes += places.size_bytes(run.run_id)
        elif run.status is dg.DagsterRunStatus.SUCCESS and (size := places.size_bytes(run.run_id)):
            trimmed.append(run.run_id)
            size_bytes += size
        else:
            kept += 1
    return Plan(tuple(removed), tuple(trimmed), kept, size_bytes)


def carry_out(instance: dg.DagsterInstance, asked: Plan) -> None:
    """Take out what the plan names. Safe beside running processes: they do not touch runs that ended long ago.

    A run's record goes last, so a kill leaves runs that the next plan names again.
    """
    events = _sql(instance)
    places = _Places(instance)
    for run_id in asked.trimmed:
        places.remove(run_id)
    for run_id in asked.removed:
        with events.index_connection() as connection:
            events.delete_events_for_run(connection, run_id)
            checks = AssetCheckExecutionsTable
            connection.execute(checks.delete().where(checks.c.run_id == run_id))
        faults.reach("history.events_removed")
        places.remove(run_id)
        faults.reach("history.files_removed")
        instance.run_storage.delete_run(run_id)


def packed(folder: Path) -> list[Path]:
    """Give the room of removed rows back to the disk; the files that somebody was writing to, and that stay larger."""
    busy = []
    for path in (folder / "history/runs.db", folder / "history/runs/index.db"):
        if not path.is_file():
            continue
        with closing(sqlite3.connect(path, timeout=_PACK_WAIT_SECONDS, isolation_level=None)) as opened:
            [free], [pages] = (opened.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_count"))
            if free < _WORTH_PACKING * pages:
                continue
            try:
                opened.execute("VACUUM")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise
                busy.append(path)
    return busy


def _sql(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise CannotMaintain(
            f"The history lies in {type(storage).__name__}, which this cannot ask in SQL. Nothing was removed; "
            "retrying does not help. Use the retention of that storage."
        )
    return storage


def _records(instance: dg.DagsterInstance) -> Iterator[dg.RunRecord]:
    """Every run, the newest first."""
    cursor: str | None = None
    while page := instance.get_run_records(limit=_PAGE, cursor=cursor):
        yield from page
        cursor = page[-1].dagster_run.run_id


class _Needed:
    """What the history is still asked about: the last event of each partition, and verdicts that nothing came after."""

    def __init__(self, storage: SqlEventLogStorage) -> None:
        log, checks = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c
        newest = (
            db.select(db.func.max(log.id))
            .where(log.asset_key.isnot(None), log.dagster_event_type.in_(_LASTING))
            .group_by(log.asset_key, log.partition, log.dagster_event_type)
        )
        latest = db.select(db.func.max(checks.id)).group_by(checks.asset_key, checks.check_name)
        said = (checks.asset_key, checks.create_timestamp, checks.evaluation_event_timestamp)
        self.runs: set[str] = set()
        self._made: dict[str, dict[str, datetime]] = {}
        self._said: dict[str, dict[str, datetime]] = {}
        with storage.index_connection() as connection:
            columns = (log.run_id, log.asset_key, log.partition, log.dagster_event_type, log.timestamp)
            for run_id, asset, partition, kind, at in connection.execute(db.select(*columns).where(log.id.in_(newest))):
                self.runs.add(run_id)
                if kind == _LASTING[0]:
                    self._made.setdefault(asset, {})[partition or ""] = at
            self.runs |= {
                run_id for (run_id,) in connection.execute(db.select(checks.run_id).where(checks.id.in_(latest)))
            }
            for run_id, asset, planned, evaluated in connection.execute(db.select(checks.run_id, *said)):
                of_run = self._said.setdefault(run_id, {})
                of_run[asset] = max(of_run.get(asset, planned), planned, evaluated or planned)
        self._keys = {asset: sorted(made) for asset, made in self._made.items()}

    def holds(self, run: dg.DagsterRun) -> bool:
        """Whether the run has something that was not overtaken by a later one."""
        if run.run_id in self.runs:
            return True
        first, last = utc.keys_of_run(run.tags) or ("", _AFTER_ALL)
        return any(
            self._made[asset][key] <= at + _AT_ONCE
            for asset, at in self._said.get(run.run_id, {}).items()
            for key in self._between(asset, first, last)
        )

    def _between(self, asset: str, first: str, last: str) -> Sequence[str]:
        """The partitions of the asset that were ever made, in this range."""
        keys = self._keys.get(asset, ())
        return keys[bisect_left(keys, first) : bisect_right(keys, last)]


class _Places:
    """The files of a run: its own event log, what its steps printed, its artifacts."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        storage: Any = instance.event_log_storage
        self._log: Callable[[str], str] | None = storage.path_for_shard if hasattr(storage, "path_for_shard") else None
        logs: Any = instance.compute_log_manager
        folders = [getattr(logs, "_base_dir", None), instance.storage_directory()]
        self._folders = [Path(folder) for folder in folders if folder]

    def size_bytes(self, run_id: str) -> int:
        """What they take on the disk; 0 where there are none."""
        size = 0
        for path in self._of(run_id):
            with suppress(OSError):
                inside = (os.path.join(at, name) for at, _, names in os.walk(path) for name in names)
                size += sum(os.lstat(each).st_size for each in inside) if path.is_dir() else path.stat().st_size
        return size

    def remove(self, run_id: str) -> None:
        """Remove them; what is gone already is no error."""
        for path in self._of(run_id):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _of(self, run_id: str) -> Iterator[Path]:
        # What a log in WAL mode has beside it goes first: without its file it would be taken for that of the next one.
        if self._log is not None:
            yield from (Path(f"{self._log(run_id)}{suffix}") for suffix in ("-wal", "-shm", "-journal", ""))
        yield from (folder / run_id for folder in self._folders)
