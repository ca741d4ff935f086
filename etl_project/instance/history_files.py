"""Dagster's SQLite files: made by one process at a time, and mended where two once made them at once.

Dagster checks, creates and stamps its files without a lock. Two first processes on one folder can both leave their
stamp, and a file with two stamps can never be opened again. Belongs here: the lock around the making, the look whether
the files are sound, and one line for what a disk or a damaged file makes of SQLite. Does not belong here: what is in
the files; Dagster's own classes make and read it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy.exc
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.sql import ALEMBIC_SCRIPTS_LOCATION
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from etl_project import faults, sqlite_log
from etl_project.failures import EtlError, Permanent, Transient

FILES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")
"""Those that Dagster makes at its first start. The file of a run is made with the run, and bears being made twice."""

_POLL_SECONDS = 0.05
_PASSING = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CANTOPEN}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class HistoryBusy(Transient):
    """Another process is making or writing Dagster's files. Nothing was changed; retrying helps."""


class HistoryUnavailable(Transient):
    """The disk is full or failed. What was committed stays committed; retrying helps once there is room."""


class HistoryUnusable(Permanent):
    """A file of Dagster's history is damaged. Retrying does not help: it has to be removed or restored."""


def prepare(folder: Path, wait_seconds: float) -> None:
    """Dagster's files under `folder` are complete and sound afterwards, however many processes start at once.

    Files that are not there are made aside and renamed into place, so a kill leaves none or all. A file that two
    processes of an earlier version stamped keeps the newer stamp; its content is right. A few reads where all is well.

    Raises HistoryBusy (retrying helps) when another process makes them for longer than `wait_seconds`,
    HistoryUnavailable (retrying helps) on a full disk, HistoryUnusable (it does not) where a file is damaged.
    """
    with explained(folder):
        if _sound(folder):
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_name(f"{folder.name}.lock"), wait_seconds):
            if not folder.exists():
                _make(folder)
            elif not _sound(folder):
                for name in FILES:
                    _keep_newest_stamp(folder / name)
                _finish(folder)


def _sound(folder: Path) -> bool:
    """Whether all files are there, each with one stamp and with the marks that Dagster sets when it has made it."""
    return all(_is_sound(folder / name) for name in FILES)


def _is_sound(path: Path) -> bool:
    if not path.is_file():
        return False
    with closing(_opened(path)) as db:
        return _has_rows(db, "secondary_indexes") and len(_stamps(db)) == 1


def _make(folder: Path) -> None:
    """All files at once, in one rename."""
    aside = folder.with_name(f".{folder.name}.new")
    if aside.exists():
        shutil.rmtree(aside)
    _finish(aside)
    if not sqlite_log.fits(aside):
        for name in FILES:
            with closing(_opened(aside / name)) as db:
                db.execute("PRAGMA journal_mode = DELETE")
    faults.reach("history.made")
    aside.rename(folder)


def _finish(folder: Path) -> None:
    """Let Dagster make what is missing. Its migrations of data mark themselves as done, and are not done twice."""
    storage = DagsterSqliteStorage.from_local(str(folder))
    try:
        storage.run_storage.migrate()
        storage.run_storage.optimize()
        storage.event_log_storage.reindex_events()
        storage.event_log_storage.reindex_assets()
        storage.schedule_storage.migrate()
        storage.schedule_storage.optimize()
    finally:
        storage.dispose()


def _keep_newest_stamp(path: Path) -> None:
    """Of several stamps only the newest is left: the tables were made once, by code that knew all of them."""
    if not path.is_file():
        return
    with closing(_opened(path)) as db:
        stamps = _stamps(db)
        for older in stamps - {_newest(stamps)} if len(stamps) > 1 else ():
            db.execute("DELETE FROM alembic_version WHERE version_num = ?", (older,))


def _newest(stamps: set[str]) -> str:
    """The stamp that comes last in Dagster's history of its schema."""
    config = Config()
    config.set_main_option("script_location", ALEMBIC_SCRIPTS_LOCATION)
    ordered = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]  # Newest first.
    return min(stamps, key=ordered.index)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=30, isolation_level=None)


def _stamps(db: sqlite3.Connection) -> set[str]:
    if not _has_rows(db, "alembic_version"):
        return set()
    return {stamp for (stamp,) in db.execute("SELECT version_num FROM alembic_version")}


def _has_rows(db: sqlite3.Connection, table: str) -> bool:
    there = db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()
    return there is not None and db.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone() is not None


@contextmanager
def _alone(path: Path, wait_seconds: float) -> Iterator[None]:
    """No other process is in the block; the kernel ends the lock with its process. The file stays."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not eventually(lambda: _locked(descriptor), wait_seconds):
            raise HistoryBusy(
                f"{path}: another process has been making Dagster's files for {wait_seconds:g} s. Nothing was changed; "
                "retrying helps. If none is starting, one was stopped in the middle: end it."
            )
        yield
    finally:
        os.close(descriptor)


def eventually(met: Callable[[], bool], wait_seconds: float) -> bool:
    """Whether the condition is met within this time; asked at least once."""
    deadline = time.monotonic() + wait_seconds
    while not met():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """What SQLite says in the block, be it through Dagster, as one error that names the folder and what to do.

    Raises HistoryBusy, HistoryUnavailable (retrying helps), HistoryUnusable (it does not).
    """
    try:
        yield
    except sqlite3.Error as error:
        raise _in_words(folder, error) from error
    except sqlalchemy.exc.DBAPIError as error:
        if not isinstance(error.orig, sqlite3.Error):
            raise
        raise _in_words(folder, error.orig) from error
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _unavailable(folder, error) from error


def _in_words(folder: Path, error: sqlite3.Error) -> EtlError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # The low byte of an extended code.
    if code in _BUSY:
        return HistoryBusy(
            f"Dagster's history in {folder}: another process is writing to it ({error}). Retrying helps."
        )
    if code in _PASSING:
        return _unavailable(folder, error)
    return HistoryUnusable(
        f"Dagster's history in {folder} cannot be used: {error}. Retrying does not help: stop all processes and put it "
        "back from a copy, or move the folder away. No row is lost, what is due follows from files and commits; "
        "`etl verify --repair` writes the events anew."
    )


def _unavailable(folder: Path, error: Exception) -> HistoryUnavailable:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return HistoryUnavailable(
        f"Dagster's history in {folder} cannot be written: {error}; {shutil.disk_usage(there).free / 1e6:,.1f} MB are "
        "free there. What was committed stays committed. Retrying helps once there is room: `etl drain` goes on from "
        "there."
    )
