"""The task lock on a PostgreSQL server, for runs on several machines.

Belongs here: taking, checking and releasing jobs in the tables of the schema `etl_locks`. Does not belong here: the
connection and its errors (`server`), and who chooses this (`keeper`).

It holds together as the lock of one machine does (`locks`), but for who is alive: a pid means nothing on another
machine. So every holder has a lease, renewed by a thread of its process, on the server's clock alone. A lease that has
run out falls to whoever comes next, or stays with its holder if nobody came. What is known of this machine's processes
is used as well: one that is dead loses its jobs at once. Whoever lost its row changes nothing any more: `check` asks
right before each commit, and renews the lease for it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, timedelta
from functools import partial
from typing import Any, Self

import psycopg

from etl_project import faults
from etl_project.exclusion.heartbeat import Heartbeat
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
from etl_project.exclusion.processes import Owner, is_alive, is_dead_here, this_host, this_process
from etl_project.exclusion.server import LocksUnavailable, LocksUnusable, Server
from etl_project.failures import Busy, Transient

VERSION = 1
"""Of the tables. All machines of a deployment know the same one."""
BEATS_A_LEASE = 4

_Connection = psycopg.Connection[tuple[Any, ...]]

_ALONE = "SELECT pg_advisory_xact_lock(hashtext('etl_locks'))"
_IS_THERE = "SELECT to_regnamespace('etl_locks') IS NOT NULL, to_regclass('etl_locks.version') IS NOT NULL"
_TABLES = """
CREATE TABLE etl_locks.version (version integer NOT NULL);
CREATE TABLE etl_locks.task_lock (
    job_hash bytea PRIMARY KEY, job_id text NOT NULL, run_id text NOT NULL, generation bigint NOT NULL,
    acquired_at timestamptz NOT NULL
);
CREATE INDEX task_lock_run ON etl_locks.task_lock (run_id);
CREATE TABLE etl_locks.task_lock_holder (
    token text PRIMARY KEY, run_id text NOT NULL, acquired_at timestamptz NOT NULL, expires_at timestamptz NOT NULL,
    machine text NOT NULL, host text NOT NULL, pid_namespace text NOT NULL, pid bigint NOT NULL,
    started_at text NOT NULL
);
CREATE INDEX task_lock_holder_run ON etl_locks.task_lock_holder (run_id);
CREATE TABLE etl_locks.run_at_work (run_id text PRIMARY KEY, expires_at timestamptz NOT NULL);
CREATE SEQUENCE etl_locks.generation;
CREATE TABLE etl_locks.deployment (id text NOT NULL);
"""
_HOLDER_COLUMNS = "h.token, h.run_id, h.acquired_at, h.machine, h.host, h.pid_namespace, h.pid, h.started_at"


class PostgresLocks:
    """As `jobs.Locks`, in the database at `url`, which may hold a password."""

    def __init__(self, url: str, *, lease_seconds: float, run_has_ended: RunHasEnded = nobody_says_so) -> None:
        self._server = Server.at(url)
        self._lease = timedelta(seconds=lease_seconds)
        self._run_has_ended = run_has_ended

    @property
    def shown(self) -> str:
        """Where the locks are, without any password."""
        return f"PostgreSQL ({self._server.shown})"

    def take(self, run_id: str, jobs: Iterable[Job], wait_seconds: float, say: Say = log.info) -> PostgresLease:
        """As `jobs.Locks`; a server that does not answer is waited for as well.

        Raises LockBusy, LocksUnavailable (retrying helps), LocksUnusable (it does not).
        """
        wanted = sorted({job_id(job) for job in jobs})
        attempt = partial(self._attempt, run_id, wanted)
        return waiting(run_id, attempt, wait_seconds, say, (Busy, LocksUnavailable))

    def _attempt(self, run_id: str, wanted: list[str]) -> PostgresLease:
        lease = PostgresLease(self._server, run_id, self._lease)
        try:
            claimed(partial(lease._claim, wanted), self._run_has_ended, self._bury)
        except BaseException:
            lease.release()
            raise
        return lease

    def _bury(self, dead: list[Holder]) -> None:
        with self._server.transaction() as db:
            db.execute(_ALONE)
            _bury(db, dead)

    @contextmanager
    def announced(self, run_id: str, wait_seconds: float) -> Iterator[None]:
        """Every machine knows that the run is at work, for as long as the block lasts and a lease longer.

        To be entered before the run's record names its process. Raises as `take`, but for LockBusy.
        """
        waiting(run_id, partial(self._announce, run_id, first=True), wait_seconds, log.info, (Busy, LocksUnavailable))
        beat = Heartbeat(partial(self._announce, run_id), self._lease.total_seconds() / BEATS_A_LEASE, f"run {run_id}")
        try:
            yield
        finally:
            beat.stop()

    def _announce(self, run_id: str, *, first: bool = False) -> bool:
        with self._server.transaction() as db:
            if first:
                db.execute(_ALONE)
                _prepare(db)
            _is_at_work(db, run_id, self._lease)
        return True

    def may_be_at_work(self, run_id: str, owners: Sequence[Owner]) -> bool:
        """As `jobs.Locks`. A run that is said to be dead has lost its jobs by then. In doubt (no answer) True."""
        if any(map(is_alive, owners)):
            return True
        if all(map(is_dead_here, owners)):
            return False
        try:
            with self._server.transaction() as db:
                db.execute(_ALONE)
                _prepare(db)
                _free_dead(db)
                there = "SELECT 1 FROM etl_locks.run_at_work WHERE run_id = %s AND expires_at >= clock_timestamp()"
                return db.execute(there, [run_id]).fetchone() is not None
        except Transient as doubt:
            log.warning("Whether run %s is at work on another machine cannot be told: %s", run_id, doubt)
            return True

    def deployment_id(self, own: str) -> str:
        """As `jobs.Locks`: that of the data folder which asked first, noted in the database."""
        with self._server.transaction() as db:
            db.execute(_ALONE)
            _prepare(db)
            if db.execute("SELECT to_regclass('etl_locks.deployment')").fetchone() == (None,):  # Tables from before it.
                db.execute("CREATE TABLE etl_locks.deployment (id text NOT NULL)")
            noted = "SELECT id FROM etl_locks.deployment"
            db.execute(f"INSERT INTO etl_locks.deployment SELECT %s WHERE NOT EXISTS ({noted})", [own])
            found = db.execute(noted).fetchone()
        return own if found is None else str(found[0])

    def examined(self) -> str:
        """What is held there, after trying what a run needs. Raises as `take`, but for LockBusy."""
        with self._server.transaction() as db:
            db.execute(_ALONE)
            _prepare(db)
            _free_dead(db)
            found = db.execute("SELECT count(*), count(DISTINCT run_id) FROM etl_locks.task_lock").fetchone()
        jobs, runs = found or (0, 0)
        return f"{jobs:,} partitions held by {runs:,} runs; leases of {self._lease.total_seconds():g} s"


class PostgresLease:
    """As `jobs.Lease`. Made by `PostgresLocks.take`; leaving its `with` block releases it."""

    def __init__(self, server: Server, run_id: str, length: timedelta) -> None:
        self.run_id = run_id
        self._server, self._length = server, length
        self._owner = this_process()
        self._token = uuid.uuid4().hex
        self._generations: dict[str, int] = {}
        self._may_be_recorded = False
        self._heartbeat: Heartbeat | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def check(self, jobs: Iterable[Job] | None = None) -> None:
        """Return only if the run still holds these jobs (all of the lease) as it took them, for a whole lease from now.

        Raises LockLost: the writer must not commit; taking the jobs again helps. LocksUnavailable, LocksUnusable.
        """
        asked = list(self._generations) if jobs is None else [job_id(job) for job in jobs]
        with self._server.transaction() as db:
            if not _is_made(db):
                raise LockLost(
                    f"The tables in {self._server.shown} are gone, and every lock with them. "
                    "Nothing was committed; retrying helps."
                )
            held = _held(db, self.run_id, asked) if self._renew(db) else {}
            gone = [job for job in asked if job not in held or held[job] != self._generations.get(job)]
            if gone:
                raise lost(self.run_id, gone, len(asked), listed(_holders(db, self.run_id, gone)))

    def release(self) -> None:
        """As `jobs.Lease`. Where the server does not answer the jobs fall with the lease, which is not renewed."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
        if self._may_be_recorded and this_process() == self._owner:
            try:
                self._leave()
            except Transient as error:
                log.warning("The locks of run %s were not given back, and fall by themselves: %s", self.run_id, error)
        self._may_be_recorded = False

    def _leave(self) -> None:
        with self._server.transaction() as db:
            db.execute(_ALONE)
            if _is_made(db):
                db.execute("DELETE FROM etl_locks.task_lock_holder WHERE token = %s", [self._token])
                _free_dead(db)
            faults.reach("locks.before_release")

    def _claim(self, wanted: list[str]) -> list[Holder]:
        """Take all wanted jobs in one transaction, or change nothing and return who holds some of them."""
        with self._server.transaction() as db:
            db.execute(_ALONE)
            _prepare(db)
            _free_dead(db)
            if holders := _holders(db, self.run_id, wanted):
                return holders
            self._record(db, wanted)
            self._may_be_recorded = True
            faults.reach("locks.before_commit")
        with self._server.explained():
            faults.reach("locks.after_commit")
        beat = self._length.total_seconds() / BEATS_A_LEASE
        self._heartbeat = Heartbeat(self._beat, beat, f"the lease of run {self.run_id}")
        return []

    def _record(self, db: _Connection, wanted: list[str]) -> None:
        me = self._owner
        db.execute(
            "INSERT INTO etl_locks.task_lock_holder VALUES"
            " (%s, %s, clock_timestamp(), clock_timestamp() + %s, %s, %s, %s, %s, %s)",
            [self._token, self.run_id, self._length, platform.node(), me.host, me.pid_namespace, me.pid, me.started_at],
        )
        _is_at_work(db, self.run_id, self._length)
        new = db.execute(  # A job that another process of this run holds already keeps its row and generation.
            "WITH taken AS (SELECT nextval('etl_locks.generation') AS generation)"
            " INSERT INTO etl_locks.task_lock"
            " SELECT sha256(convert_to(id, 'UTF8')), id, %s, generation, clock_timestamp()"
            " FROM taken, json_array_elements_text(%s) AS id ON CONFLICT DO NOTHING RETURNING job_id, generation",
            [self.run_id, json.dumps(wanted)],  # JSON: an array of PostgreSQL's takes ten times as long to send.
        )
        self._generations = dict(new.fetchall())
        if former := [job for job in wanted if job not in self._generations]:
            self._generations |= _held(db, self.run_id, former)

    def _beat(self) -> bool:
        with self._server.transaction() as db:
            renewed = self._renew(db)
        if not renewed and self._may_be_recorded:
            log.warning("Run %s has lost its locks: its lease was not renewed in time.", self.run_id)
        return renewed

    def _renew(self, db: _Connection) -> bool:
        """Whether we are still there; then for a whole lease from now."""
        renewed = db.execute(
            "UPDATE etl_locks.task_lock_holder SET expires_at = clock_timestamp() + %s WHERE token = %s",
            [self._length, self._token],
        )
        if renewed.rowcount:
            _is_at_work(db, self.run_id, self._length)
        return bool(renewed.rowcount)


def _is_made(db: _Connection) -> bool:
    return db.execute(_IS_THERE).fetchone() == (True, True)


def _prepare(db: _Connection) -> None:
    """Make the tables where there are none; two reads where they are. Raises LocksUnusable for another version."""
    schema_is_there, tables_are_there = db.execute(_IS_THERE).fetchone() or (False, False)
    if not tables_are_there:
        if not schema_is_there:
            db.execute("CREATE SCHEMA etl_locks")
        db.execute(_TABLES)
        db.execute("INSERT INTO etl_locks.version VALUES (%s)", [VERSION])
    versions = [version for (version,) in db.execute("SELECT version FROM etl_locks.version")]
    if versions != [VERSION]:
        there = ", ".join(map(str, versions)) or "none"
        raise LocksUnusable(
            f"The tables of the task locks in PostgreSQL ({db.info.dbname} on {db.info.host}) are of version {there}; "
            f"this machine knows {VERSION}. Nothing was changed; retrying does not help. All machines have to move to "
            "another version together, with all runs stopped; then DROP SCHEMA etl_locks CASCADE: it has no data."
        )


def _is_at_work(db: _Connection, run_id: str, length: timedelta) -> None:
    db.execute(
        "INSERT INTO etl_locks.run_at_work AS known VALUES (%s, clock_timestamp() + %s) ON CONFLICT (run_id)"
        " DO UPDATE SET expires_at = greatest(known.expires_at, excluded.expires_at)",
        [run_id, length],
    )


def _held(db: _Connection, run_id: str, job_ids: list[str]) -> dict[str, int]:
    """The generation of each of these jobs that the run holds."""
    rows = db.execute(
        "SELECT job_id, generation FROM etl_locks.task_lock WHERE run_id = %s AND job_hash = ANY(%s)",
        [run_id, _hashes(job_ids)],
    )
    return dict(rows.fetchall())


def _holders(db: _Connection, run_id: str, job_ids: list[str]) -> list[Holder]:
    """The processes of other runs that hold some of these jobs, longest first."""
    rows = db.execute(
        f'SELECT {_HOLDER_COLUMNS}, min(l.job_id COLLATE "C"), count(*)'
        " FROM etl_locks.task_lock l JOIN etl_locks.task_lock_holder h USING (run_id)"
        " WHERE l.run_id <> %s AND l.job_hash = ANY(%s) GROUP BY h.token ORDER BY h.acquired_at, h.token",
        [run_id, _hashes(job_ids)],
    )
    return [_holder(row) for row in rows]


def _free_dead(db: _Connection) -> None:
    """Free the jobs of all runs without a living process, whoever wants them: nothing of a crash stays behind."""
    expired = db.execute(  # One statement: a lease that is renewed at this moment is looked at again, and stays.
        f"DELETE FROM etl_locks.task_lock_holder h WHERE expires_at < clock_timestamp() RETURNING {_HOLDER_COLUMNS}"
    )
    for holder in map(_holder, expired.fetchall()):
        log.warning(
            "Run %s has lost its locks: its process %d%s did not renew its lease in time.",
            *(holder.run_id, holder.owner.pid, holder.where),
        )
    ours = db.execute(
        f"SELECT {_HOLDER_COLUMNS} FROM etl_locks.task_lock_holder h WHERE host = %s AND pid_namespace = %s",
        list(this_host()),
    )
    _bury(db, [holder for holder in map(_holder, ours.fetchall()) if is_dead_here(holder.owner)])
    db.execute("DELETE FROM etl_locks.run_at_work WHERE expires_at < clock_timestamp() - interval '1 day'")


def _bury(db: _Connection, dead: list[Holder]) -> None:
    tell_dead(dead)
    db.execute("DELETE FROM etl_locks.task_lock_holder WHERE token = ANY(%s)", [[holder.token for holder in dead]])
    db.execute(
        "DELETE FROM etl_locks.task_lock l WHERE NOT EXISTS"
        " (SELECT FROM etl_locks.task_lock_holder h WHERE h.run_id = l.run_id)"
    )


def _hashes(job_ids: Iterable[str]) -> list[bytes]:
    """What a job is found by: PostgreSQL's indexes take no text of more than some 2,700 bytes."""
    return [hashlib.sha256(job.encode()).digest() for job in job_ids]


def _holder(row: tuple[Any, ...]) -> Holder:
    token, run_id, acquired_at, machine, *rest = row
    owner, (example, jobs) = Owner(*rest[:4]), rest[4:] or (None, 0)
    since = acquired_at.astimezone(UTC).isoformat()
    return Holder(token, run_id, since, owner, example, jobs, where=f" on {machine}")
