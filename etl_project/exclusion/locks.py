"""The task lock: two runs never work on the same partition of the same asset at the same time.

Belongs here: taking, checking and releasing jobs (an asset and a partition) in the state file. Does not belong here:
Dagster (the caller says whose run has ended), the file itself (sqlite_file.py), and what is done under the lock.

How it holds together (docs/decisions/task-lock.md gives the reasons):

* A job belongs to a run. Each `take` adds one row to `task_lock_holder`; the jobs of a run without holders are free.
* The number of that row is the generation of the jobs it took. AUTOINCREMENT never gives a number twice, so a taker's
  generation is higher than any former holder's, whatever was released or taken over in between.
* A holder is dead when its process is gone or its run has ended. Nothing is judged by age: clocks lie, kernels do not.
"""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Self

from etl_project import faults
from etl_project.exclusion import sqlite_file
from etl_project.exclusion.jobs import (
    Holder,
    Job,
    LockLost,
    RunHasEnded,
    Say,
    claimed,
    job_id,
    listed,
    log,
    lost,
    nobody_says_so,
    tell_dead,
    waiting,
)
from etl_project.exclusion.processes import Owner, is_alive, may_be_alive, this_process
from etl_project.exclusion.sqlite_file import WrongHost
from etl_project.failures import Busy
from etl_project.utc import now

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS task_lock (
        job_id TEXT PRIMARY KEY, acquired_at TEXT NOT NULL, pid INTEGER NOT NULL, host TEXT NOT NULL,
        pid_namespace TEXT NOT NULL, started_at TEXT NOT NULL, run_id TEXT NOT NULL, generation INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS task_lock_run ON task_lock (run_id)",
    """CREATE TABLE IF NOT EXISTS task_lock_holder (
        generation INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT NOT NULL UNIQUE, acquired_at TEXT NOT NULL,
        pid INTEGER NOT NULL, host TEXT NOT NULL, pid_namespace TEXT NOT NULL, started_at TEXT NOT NULL,
        run_id TEXT NOT NULL
    )""",
)
_HOLDER_COLUMNS = "h.token, h.run_id, h.acquired_at, h.host, h.pid_namespace, h.pid, h.started_at"


class TaskLock:
    """The lock table in one SQLite file. Costs nothing until `take`; threads and forks may share it."""

    def __init__(self, path: Path, *, run_has_ended: RunHasEnded = nobody_says_so) -> None:
        self.path = path
        self._run_has_ended = run_has_ended

    def take(self, run_id: str, jobs: Iterable[Job], wait_seconds: float, say: Say = log.info) -> Lease:
        """As `Locks`; it also waits for another host, which may be a container that is just being replaced.

        Raises LockBusy, StateUnavailable (retrying helps), WrongHost, StateUnusable (it does not).
        """
        wanted = sorted({job_id(job) for job in jobs})
        return waiting(run_id, partial(self._attempt, run_id, wanted), wait_seconds, say, (Busy, WrongHost))

    def _attempt(self, run_id: str, wanted: list[str]) -> Lease:
        with sqlite_file.explained(self.path):
            lease = Lease(self.path, run_id)
        try:
            claimed(partial(lease._claim, wanted), self._run_has_ended, self._bury)
        except BaseException:
            lease.release()
            raise
        return lease

    def _bury(self, dead: list[Holder]) -> None:
        with sqlite_file.explained(self.path), sqlite_file.transaction(self.path) as db:
            _bury(db, dead)

    @property
    def shown(self) -> str:
        """Where the locks are."""
        return f"{self.path}, for this machine"

    def announced(self, run_id: str, wait_seconds: float) -> AbstractContextManager[None]:
        """As `Locks`: nothing, for the kernel knows."""
        return nullcontext()

    def may_be_at_work(self, run_id: str, owners: Sequence[Owner]) -> bool:
        """As `Locks`, by what the kernel says of the processes."""
        return any(map(may_be_alive, owners))

    def deployment_id(self, own: str) -> str:
        """As `Locks`: the file lies in the data folder."""
        return own

    def examined(self) -> str:
        """As `Locks`. A file that is not there yet is made by the first run."""
        if not self.path.exists():
            return "nothing held yet"
        with sqlite_file.explained(self.path), closing(sqlite_file.connect(self.path)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'task_lock'").fetchone():
                return "nothing held yet"
            [jobs, runs] = db.execute("SELECT count(*), count(DISTINCT run_id) FROM task_lock").fetchone()
        return f"{jobs:,} partitions held by {runs:,} runs"


class Lease:
    """As `jobs.Lease`. Made by `TaskLock.take`; leaving its `with` block releases it."""

    def __init__(self, path: Path, run_id: str) -> None:
        self.run_id = run_id
        self._path = path
        self._owner = this_process()
        self._token = uuid.uuid4().hex
        self._generations: dict[str, int] = {}
        self._may_be_recorded = False
        self._at_work = ExitStack()
        self._at_work.callback(os.close, sqlite_file.join_host(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def check(self, jobs: Iterable[Job] | None = None) -> None:
        """Return only if the run still holds these jobs (all of the lease) as it took them.

        Raises LockLost: the writer must not commit; taking the jobs again helps.
        """
        self._refuse_without_file()
        with sqlite_file.explained(self._path), closing(sqlite_file.connect(self._path)) as db:
            self._refuse_if_lost(db, jobs)

    def release(self) -> None:
        """Leave; the run's last process to leave frees its jobs. A second call, or a forked child's, does nothing."""
        with self._at_work:
            if self._may_be_recorded and self._path.exists() and this_process() == self._owner:
                self._leave()
            self._may_be_recorded = False

    def _leave(self) -> None:
        with sqlite_file.explained(self._path), sqlite_file.transaction(self._path) as db:
            db.execute("DELETE FROM task_lock_holder WHERE token = ?", (self._token,))
            _free_dead(db)
            faults.reach("locks.before_release")

    def _claim(self, wanted: list[str]) -> list[Holder]:
        """Take all wanted jobs in one transaction, or change nothing and return who holds some of them."""
        with sqlite_file.explained(self._path):
            sqlite_file.prepare(self._path, _SCHEMA)
            with sqlite_file.transaction(self._path) as db:
                _free_dead(db)
                if holders := _holders(db, self.run_id, wanted):
                    return holders
                self._record(db, wanted)
                self._may_be_recorded = True
                faults.reach("locks.before_commit")
            faults.reach("locks.after_commit")
        return []

    def _record(self, db: sqlite3.Connection, wanted: list[str]) -> None:
        me = self._owner
        who = (now().isoformat(), me.pid, me.host, me.pid_namespace, me.started_at, self.run_id)
        generation = db.execute(
            "INSERT INTO task_lock_holder (token, acquired_at, pid, host, pid_namespace, started_at, run_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self._token, *who),
        ).lastrowid
        db.execute(  # A job that another process of this run holds already keeps its row and generation.
            "INSERT OR IGNORE INTO task_lock"
            " (job_id, acquired_at, pid, host, pid_namespace, started_at, run_id, generation)"
            " SELECT value, ?, ?, ?, ?, ?, ?, ? FROM json_each(?)",
            (*who, generation, json.dumps(wanted)),
        )
        self._generations = _held(db, self.run_id, wanted)

    def _refuse_without_file(self) -> None:
        if not self._path.exists():
            raise LockLost(f"{self._path} is gone, and every lock with it. Nothing was committed; retrying helps.")

    def _refuse_if_lost(self, db: sqlite3.Connection, jobs: Iterable[Job] | None) -> None:
        asked = list(self._generations) if jobs is None else [job_id(job) for job in jobs]
        held = _held(db, self.run_id, asked)
        gone = [job for job in asked if job not in held or held[job] != self._generations.get(job)]
        if gone:
            raise lost(self.run_id, gone, len(asked), listed(_holders(db, self.run_id, gone)))


def _held(db: sqlite3.Connection, run_id: str, job_ids: list[str]) -> dict[str, int]:
    """The generation of each of these jobs that the run holds."""
    rows = db.execute(
        "SELECT job_id, generation FROM task_lock WHERE run_id = ? AND job_id IN (SELECT value FROM json_each(?))",
        (run_id, json.dumps(job_ids)),
    )
    return dict(rows.fetchall())


def _holders(db: sqlite3.Connection, run_id: str, job_ids: list[str]) -> list[Holder]:
    """The processes of other runs that hold some of these jobs, longest first."""
    rows = db.execute(
        f"SELECT {_HOLDER_COLUMNS}, min(l.job_id), count(*) FROM task_lock l JOIN task_lock_holder h USING (run_id)"
        " WHERE l.run_id <> ? AND l.job_id IN (SELECT value FROM json_each(?))"
        " GROUP BY h.generation ORDER BY h.generation",
        (run_id, json.dumps(job_ids)),
    )
    return [_holder(row) for row in rows]


def _free_dead(db: sqlite3.Connection) -> None:
    """Free the jobs of all runs without a living process, whoever wants them: nothing of a crash stays behind."""
    # No other host is at work (`sqlite_file.join_host`): a process that did not start here belongs to an earlier boot.
    everybody = db.execute(f"SELECT {_HOLDER_COLUMNS}, NULL, 0 FROM task_lock_holder h")
    _bury(db, [holder for holder in map(_holder, everybody) if not is_alive(holder.owner)])


def _bury(db: sqlite3.Connection, dead: list[Holder]) -> None:
    tell_dead(dead)
    db.executemany("DELETE FROM task_lock_holder WHERE token = ?", [(holder.token,) for holder in dead])
    db.execute("DELETE FROM task_lock WHERE run_id NOT IN (SELECT run_id FROM task_lock_holder)")


def _holder(row: tuple[Any, ...]) -> Holder:
    token, run_id, acquired_at, *owner, example, jobs = row
    return Holder(token, run_id, acquired_at, Owner(*owner), example, jobs)
