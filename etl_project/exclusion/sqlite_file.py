"""The state file: how this project opens its one SQLite file, for one host, with one clear error for whatever is wrong.

Belongs here: connections, transactions and errors of `state.sqlite`, and the guard that keeps a second host away. Does
not belong here: any table; each lives with the module that uses it (the task lock, caches). Nothing in the file says
what is done, so it may be removed whenever no run is active.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from etl_project import sqlite_log
from etl_project.exclusion.processes import this_host
from etl_project.failures import Busy, EtlError, Permanent, Transient

BUSY_SECONDS = 30.0
"""How long one statement waits for SQLite's own write lock, which a healthy process holds for milliseconds."""

CLAIM_SECONDS = 1.0
"""How long processes that start together after a reboot may get in each other's way; microseconds, in fact."""

_PASSING_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_PASSING_SQLITE_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM)


class StateBusy(Busy):
    """Another process is writing to the file. Nothing was changed; retrying helps."""


class StateUnavailable(Transient):
    """The disk is full or failed. Nothing was changed; retrying helps once it answers."""


class StateUnusable(Permanent):
    """The file cannot be read or written. Retrying does not help: somebody has to repair or remove it."""

    splits = False


class WrongHost(Permanent):
    """Another host or container is at work on the same file. Retrying does not help while it is."""

    splits = False


def connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    """A connection for one call: never share it between threads, never carry it over a fork. `mode="rwc"` creates."""
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None
    )
    if sqlite_log.fits(path.parent):
        # NORMAL does not wait for the disk at each commit. A power cut may then forget the last commits, but never
        # tears the file; and whatever it forgets (locks, caches) belonged to processes that it ended as well.
        db.execute("PRAGMA synchronous = NORMAL")
    return db


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """All of the block or nothing, in BEGIN IMMEDIATE: an exception or a kill rolls back. The file has to exist."""
    with closing(connect(path)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield db
        db.execute("COMMIT")


def prepare(path: Path, schema: tuple[str, ...]) -> None:
    """Create the file, its folder and the tables (statements with IF NOT EXISTS); a few reads if all is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(connect(path, "rwc")) as db:
        if sqlite_log.fits(path.parent):
            db.execute("PRAGMA journal_mode = WAL")
        for statement in schema:
            db.execute(statement)


def join_host(path: Path) -> int:
    """A file descriptor that says "this host is at work on the file" for as long as it is open.

    It holds a shared flock on `<path>-host`, whose first line names the host. Only an exclusive flock may rewrite that
    line: it proves that no process of the host named there is left, be it for a reboot or for a stopped container. The
    kernel ends a flock with its process, so nothing here can be stale. Close it to leave, never LOCK_UN (that would
    take it away from a fork, too).
    Raises WrongHost (retrying does not help), after a moment in which processes that start together find each other.
    """
    deadline = time.monotonic() + CLAIM_SECONDS
    while True:
        try:
            return _share_host(path, "{} {}".format(*this_host()))
        except WrongHost:
            if time.monotonic() >= deadline:
                raise
        time.sleep(CLAIM_SECONDS / 100)


def _share_host(path: Path, mine: str) -> int:
    with ExitStack() as stack:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}-host", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if _named(descriptor)[0] != mine:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{mine}\n{platform.node()}\n".encode(), 0)
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if _named(descriptor)[0] != mine:  # From exclusive to shared is two steps: another host may slip between.
                raise BlockingIOError
        except BlockingIOError:
            raise WrongHost(_two_hosts(path, mine, *_named(descriptor))) from None
        stack.pop_all()
        return descriptor


def _named(descriptor: int) -> tuple[str, str]:
    identity, _, name = os.pread(descriptor, 4096, 0).decode(errors="replace").partition("\n")
    return identity, name.strip()


def _two_hosts(path: Path, mine: str, theirs: str, their_name: str) -> str:
    return (
        f"{path} is in use by another host or container: {their_name or 'unknown'} (boot and pid namespace {theirs}); "
        f"this is {platform.node()} ({mine}). Neither can tell which of the other's processes live, and SQLite's WAL "
        "cannot be shared between hosts. Nothing was changed. Retrying does not help: stop the other one, or give each "
        "its own ETL_DATA_DIR; a deployment on several hosts keeps its locks in PostgreSQL (ETL_LOCKS)."
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into one error that names the file, and what to do.

    Raises StateBusy, StateUnavailable (retrying helps), StateUnusable (it does not).
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # The low byte of an extended code.
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StateBusy(
                f"{path}: another process is writing to it. Nothing was changed; retrying helps."
            ) from error
        raise _trouble(path, error, passing=code in _PASSING_SQLITE_CODES) from error
    except OSError as error:
        raise _trouble(path, error, passing=error.errno in _PASSING_ERRNOS) from error


def _trouble(path: Path, error: Exception, *, passing: bool) -> EtlError:
    if passing:
        return StateUnavailable(f"{path}: {error}. Nothing was changed; retrying helps once the disk answers again.")
    return StateUnusable(
        f"{path} cannot be used: {error}. Nothing was changed. Retrying does not help: make the file and its folder "
        "writable, or, if it is damaged, stop all runs and remove it (it holds locks and caches, no data)."
    )
