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
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from etl_project import faults
from etl_project.exclusion import sqlite_file
from etl_project.exclusion.processes import Owner, is_alive, this_process
from etl_project.exclusion.sqlite_file import StateBusy, WrongHost
from etl_project.failures import Transient
from etl_project.utc import now

Job = tuple[str, str | None]
"""An asset and the key of its partition; None is the whole of an unpartitioned asset."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 1.0

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

_log = logging.getLogger(__name__)


class LockBusy(StateBusy):
    """Another run holds a job, or the file is busy. Nothing was changed; retrying helps."""


class LockLost(Transient):
    """The run no longer holds a job as it took it: it must not commit. Taking the job again helps."""


@dataclass(frozen=True)
class _Holder:
    """A process of another run that stands in the way: its token, and how many of the jobs we want its run holds."""

    token: str
    run_id: str
    acquired_at: str
    owner: Owner
    example: str | None
    jobs: int

    def __str__(self) -> str:
        more = "" if self.jobs == 1 else f" and {self.jobs - 1} more"
        return f"{self.example}{more} held by run {self.run_id} (process {self.owner.pid}, since {self.acquired_at})"


def _nobody_says_so(run_id: str) -> bool:
    return False


class TaskLock:
    """The lock table in one SQLite file. Costs nothing until `take`; threads and forks may share it."""

    def __init__(self, path: Path, *, run_has_ended: Callable[[str], bool] = _nobody_says_so) -> None:
        self.path = path
        self._run_has_ended = run_has_ended

    def take(
        self, run_id: str, jobs: Iterable[Job], wait_seconds: float, say: Callable[[str], None] = _log.info
    ) -> Lease:
        """Take all jobs for the run, or none; what the run holds already is taken again at once.

        Waits up to `wait_seconds` with growing pauses, and `say`s for whom; also for another host, which may be a
        container that is just being replaced. A kill leaves all jobs taken or none; the next taker sees that the
        process is gone and takes them over.
        Raises LockBusy, StateUnavailable (retrying helps), WrongHost, StateUnusable (it does not).
        """
        wanted = sorted({_job_id(job) for job in jobs})
        began, pause, said = time.monotonic(), FIRST_PAUSE_SECONDS, ""
        while True:
            try:
                return self._attempt(run_id, wanted)
            except (StateBusy, WrongHost) as refusal:
                left = began + wait_seconds - time.monotonic()
                if left <= 0:
                    final = WrongHost if isinstance(refusal, WrongHost) else LockBusy
                    raise final(f"Run {run_id} waited {wait_seconds:g} s. {refusal}") from None
                if str(refusal) != said:
                    said = str(refusal)
                    say(f"Run {run_id} waits up to {wait_seconds:g} s. {said}")
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)

    def _attempt(self, run_id: str, wanted: list[str]) -> Lease:
        """One try: claim; while only ended runs stand in the way, bury them and claim again."""
        with sqlite_file.explained(self.path):
            lease = Lease(self.path, run_id)
        try:
            while holders := lease._claim(wanted):
                # Asked outside any transaction, as the answer may be slow. Burying by token keeps it true: a process
                # that joins such a run meanwhile has another one.
                ended = [holder for holder in holders if self._run_has_ended(holder.run_id)]
                if not ended:
                    raise LockBusy(f"{_list(holders)}. Nothing was changed; retrying helps.")
                with sqlite_file.explained(self.path), sqlite_file.transaction(self.path) as db:
                    _bury(db, ended)
        except BaseException:
            lease.release()
            raise
        return lease


class Lease:
    """One process's share in the jobs of its run. Made by `TaskLock.take`; leaving its `with` block releases it."""

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

    def _claim(self, wanted: list[str]) -> list[_Holder]:
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
        asked = list(self._generations) if jobs is None else [_job_id(job) for job in jobs]
        held = _held(db, self.run_id, asked)
        lost = [job for job in asked if job not in held or held[job] != self._generations.get(job)]
        if lost:
            takers = _list(_holders(db, self.run_id, lost)) or "no other run does"
            raise LockLost(
                f"Run {self.run_id} no longer holds {', '.join(lost[:3])} ({len(lost)} of {len(asked)} jobs) "
                f"as it took them: {takers}. Nothing was committed; retrying helps."
            )


def _job_id(job: Job) -> str:
    """The job as one text that no other job has, whatever the names contain: JSON, which escapes to ASCII."""
    asset, partition = job
    return json.dumps([asset, partition])


def _held(db: sqlite3.Connection, run_id: str, job_ids: list[str]) -> dict[str, int]:
    """The generation of each of these jobs that the run holds."""
    rows = db.execute(
        "SELECT job_id, generation FROM task_lock WHERE run_id = ? AND job_id IN (SELECT value FROM json_each(?))",
        (run_id, json.dumps(job_ids)),
    )
    return dict(rows.fetchall())


def _holders(db: sqlite3.Connection, run_id: str, job_ids: list[str]) -> list[_Holder]:
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


def _bury(db: sqlite3.Connection, dead: list[_Holder]) -> None:
    # A process takes its jobs once for every IO manager: it is one dead process all the same.
    for run_id, pid in dict.fromkeys((holder.run_id, holder.owner.pid) for holder in dead):
        _log.warning("Run %s is dead: its process %d is gone, or it has ended.", run_id, pid)
    db.executemany("DELETE FROM task_lock_holder WHERE token = ?", [(holder.token,) for holder in dead])
    db.execute("DELETE FROM task_lock WHERE run_id NOT IN (SELECT run_id FROM task_lock_holder)")


def _holder(row: tuple[Any, ...]) -> _Holder:
    token, run_id, acquired_at, *owner, example, jobs = row
    return _Holder(token, run_id, acquired_at, Owner(*owner), example, jobs)


def _list(holders: list[_Holder]) -> str:
    more = f"; and {len(holders) - 3} more processes" if len(holders) > 3 else ""
    return "; ".join(map(str, holders[:3])) + more
