"""Doctor: whether this machine, folder and environment are fit to run pipelines; one answer a question.

Belongs here: the questions, each answered by trying the very thing that a run would need. Does not belong here: whether
the data is right (`verify`), and what is due (`status`). What is tried is tried in a temporary folder beside the data,
and removed; nothing else is written. A kill leaves that folder, `.etl-doctor-*`, which may be removed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement

from etl_project import settings, sqlite_log
from etl_project.declare import warehouse
from etl_project.exclusion import deployment, locks_at
from etl_project.failures import Busy, EtlError
from etl_project.http_in import settings as receiver_settings
from etl_project.http_out import settings as delivery_settings
from etl_project.kafka import settings as kafka_settings
from etl_project.settings import Settings
from etl_project.storage import Engine, StoreBusy, trial

LEAST_FREE_BYTES = 1 << 30
MOST_NAMED = 5
MOST_CLOCK_SECONDS = 2.0
"""Files are taken by their age: where the clock of a file server is off by more, new ones look old, or never do."""

MOST_BUCKET_CLOCK_SECONDS = 60.0
"""Far from what S3 refuses (15 minutes), and more than the times of objects are exact to."""


class Answer(NamedTuple):
    """One line: what was asked, whether it is well, what was found, and what to do where it is not."""

    question: str
    well: bool
    found: str
    advice: str = ""


def examine(environ: Mapping[str, str], load_pipelines: Callable[[], str]) -> Iterator[Answer]:
    """Every question in turn. `load_pipelines` loads them and says how many there are, or raises.

    Raises nothing: what goes wrong is the answer.
    """
    yield from _versions()
    yield from _environment(environ)
    configured, wrong = _read(environ)
    yield from (Answer("settings", False, line) for line in wrong)
    if configured is None:
        return
    yield _settings(environ, configured)
    yield Answer("data folder", True, f"{configured.data_dir} ({_origin(environ, 'ETL_DATA_DIR')})")
    yield _folders(configured.data_dir)
    yield _disk(configured)
    yield from _file_system(configured)
    yield _task_locks(configured)
    yield from _broker(environ)
    yield _warehouse(configured)
    yield from _bucket("lake", configured.lake_url)
    yield from _bucket("incoming", configured.incoming_url)
    yield from _what_comes_in(configured)
    yield _pipelines(load_pipelines)


def _versions() -> Iterator[Answer]:
    """Python and what the package requires, each against its range."""
    yield Answer("python", sys.version_info >= (3, 11), sys.version.split()[0], "Use Python 3.11 or newer.")
    bad = []
    for line in requires("etl-project") or ():
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue
        if wanted.marker is not None and not any(wanted.marker.evaluate({"extra": extra}) for extra in ("", "project")):
            continue
        try:
            there = version(wanted.name)
        except PackageNotFoundError:
            bad.append(f"{wanted} is not installed")
            continue
        if not wanted.specifier.contains(there, prereleases=True):
            bad.append(f"{wanted.name} is {there}, wanted {wanted.specifier}")
    shown = ", ".join(f"{name} {version(name)}" for name in ("etl-project", "dagster", "duckdb", "pandas", "pyarrow"))
    yield Answer("packages", not bad, "; ".join(bad) or shown, "Run `make setup`, or install the versions named.")


def _environment(environ: Mapping[str, str]) -> Iterator[Answer]:
    """The variables that are set; a name that nothing reads is a misspelt one."""
    mine = sorted(name for name in environ if name.startswith("ETL_"))
    unknown = [name for name in mine if name not in settings.NAMES and not name.startswith(settings.PREFIXES)]
    shown = ", ".join(f"{name}={'***' if settings.is_secret(name, environ[name]) else environ[name]}" for name in mine)
    yield Answer(
        "environment",
        not unknown,
        f"nothing reads {', '.join(unknown)}." if unknown else shown or "no ETL_ variable is set: all defaults",
        "Correct the name (docs/settings.md lists them), or unset it.",
    )


def _read(environ: Mapping[str, str]) -> tuple[Settings | None, list[str]]:
    """The settings, none where the project's own cannot be used, and a line for each that is wrong.

    Those of a part are asked for where one of them is set: whoever does not use it needs none.
    """
    parts = {
        "ETL_DELIVERY_": delivery_settings.outgoing,
        "ETL_RECEIVER_": receiver_settings.receiver,
        "ETL_KAFKA_": kafka_settings.load,
    }
    found: list[str] = []
    configured = None
    try:
        configured = settings.load(environ)
    except EtlError as error:
        found += str(error).splitlines()
    for prefix, read in parts.items():
        if any(name.startswith(prefix) and environ[name] for name in environ):
            try:
                read(environ)
            except EtlError as error:
                found.append(str(error))
    return configured, found


def _settings(environ: Mapping[str, str], configured: Settings) -> Answer:
    """Every number and date as it is read, and whether the environment says it. Addresses have lines of their own."""
    told = []
    for part in fields(configured):
        name, value = f"ETL_{part.name.upper()}", getattr(configured, part.name)
        if name in settings.NAMES and part.type in ("date", "float", "int", "int | None"):
            told.append(f"{part.name} {'none' if value is None else value} ({_said(environ, name)})")
    return Answer("settings", True, ", ".join(told))


def _said(environ: Mapping[str, str], name: str) -> str:
    return name if environ.get(name) else "default"


def _origin(environ: Mapping[str, str], name: str) -> str:
    return f"from {name}" if environ.get(name) else f"the default; {name} is not set"


def _folders(data: Path) -> Answer:
    """Those that are there, two floors down: what another user has made (a command that ran as root) may be shut."""
    advice = "Let this user read, write and enter them (like `chown -R`), and run everything as one user."
    shut = []
    for folder, inner, files in os.walk(data):
        databases = (name for name in files if ".sqlite" in name or ".duckdb" in name)
        here = [path for path in (Path(folder, name) for name in (*inner, *databases)) if not path.is_symlink()]
        # SQLite's and DuckDB's logs go while they are listed: whoever is at work closes his database.
        shut += [str(p.relative_to(data)) for p in here if not os.access(p, _access(p)) and os.path.lexists(p)]
        if Path(folder) != data:
            inner.clear()
    named = ", ".join(sorted(shut)[:MOST_NAMED])
    more = f" and {len(shut) - MOST_NAMED} more" if len(shut) > MOST_NAMED else ""
    return Answer("folders", not shut, f"no permission: {named}{more}" if shut else "this user may use them", advice)


def _access(path: Path) -> int:
    return os.R_OK | os.W_OK | (os.X_OK if os.path.isdir(path) else 0)


def _disk(configured: Settings) -> Answer:
    free = shutil.disk_usage(configured.data_dir).free
    advice = "Free space: runs fail as retryable when it is full, and go on once there is room."
    return Answer("disk", free >= LEAST_FREE_BYTES, f"{free / (1 << 30):.1f} GiB free", advice)


def _file_system(configured: Settings) -> Iterator[Answer]:
    """What commits, locks and settling rest on, tried on the file system of the data folder."""
    try:
        with TemporaryDirectory(prefix=".etl-doctor-", dir=configured.data_dir) as name:
            folder = Path(name)
            yield _clock(folder)
            yield _wal(folder)
            yield _locks(folder)
            yield _links(folder)
    except OSError as error:
        yield Answer("file system", False, f"nothing can be written: {error}", "Make the data folder writable.")


def _clock(folder: Path) -> Answer:
    before = time.time()
    made = folder / "now"
    made.touch()
    stamp = made.stat().st_mtime
    off = max(before - stamp, stamp - time.time(), 0.0)
    advice = "Let both clocks follow a time server (NTP): a file counts by its age."
    agree = f"agree within {off:.1f} s" if off else "agree"
    found = f"files and this machine {agree if off <= MOST_CLOCK_SECONDS else f'are {off:,.0f} s apart'}"
    return Answer("clock", off <= MOST_CLOCK_SECONDS, found, advice)


def _wal(folder: Path) -> Answer:
    advice = "SQLite's WAL needs a local disk: put ETL_DATA_DIR on one, not on a network file system."
    if not sqlite_log.fits(folder):
        return Answer("SQLite WAL", True, "not used, this disk's blocks are too small: a rollback journal is", advice)
    try:
        with closing(sqlite3.connect(folder / "wal.sqlite")) as connection:
            [mode] = connection.execute("pragma journal_mode = wal").fetchone()
            connection.execute("create table t (n)")
    except sqlite3.Error as error:
        return Answer("SQLite WAL", False, str(error), advice)
    return Answer("SQLite WAL", mode == "wal", f"journal mode {mode}", advice)


def _locks(folder: Path) -> Answer:
    """Two descriptors of one file: the second must be kept out."""
    advice = "Two writers could both win: put ETL_DATA_DIR on a file system that has locks."
    path = folder / "lock"
    path.touch()
    with path.open() as first, path.open() as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return Answer("locks", False, f"files cannot be locked: {error}", advice)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Answer("locks", True, "a second writer is kept out")
    return Answer("locks", False, "a second writer is not kept out", advice)


def _links(folder: Path) -> Answer:
    """Files go back into a drop folder by hard link, which never replaces a newer one."""
    (folder / "linked").touch()
    try:
        os.link(folder / "linked", folder / "link")
    except OSError as error:
        return Answer("hard links", True, f"none here ({error.strerror}): files that came back wait in `.taken/`")
    return Answer("hard links", True, "there are hard links")


def _task_locks(configured: Settings) -> Answer:
    """Where they are kept; on a server it is tried what a run needs there."""
    try:
        locks = locks_at(configured.locks_url, configured.state, configured.lease_seconds)
        return Answer("task locks", True, f"{locks.examined()}, in {locks.shown}")
    except Busy as busy:
        return Answer("task locks", True, str(busy))
    except EtlError as error:
        return Answer("task locks", False, str(error))


def _broker(environ: Mapping[str, str]) -> Iterator[Answer]:
    """That of runs on several machines, where one is set."""
    url = environ.get("ETL_BROKER")
    if not url:
        return
    try:
        from etl_project.instance import worker  # noqa: PLC0415  # Needs an extra.

        yield Answer("broker", True, f"{worker.answering(url)} answers")
    except EtlError as error:
        yield Answer("broker", False, str(error))


def _warehouse(configured: Settings) -> Answer:
    """A holder is no fault: it is most likely a run."""
    try:
        store = warehouse(configured, wait_seconds=0)
        with store.look() as connection:
            is_made = connection is not None
        if (refused := store.engine.refusal_to_write()) is not None:
            return Answer("warehouse", False, refused)
        if not is_made:
            return Answer("warehouse", True, f"not made yet: {store.identity}")
        records = store.last_commits()
        others = _others(configured, store.engine)
    except StoreBusy as busy:
        return Answer("warehouse", True, str(busy))
    except EtlError as error:
        return Answer("warehouse", False, str(error), "`etl verify` tells more; docs/observe.md says what to do.")
    return Answer("warehouse", True, f"free; {len(records):,} committed partitions in {store.identity}{others}")


def _others(configured: Settings, engine: Engine) -> str:
    """The tables there that other deployments write: nothing is wrong with it, unless this one has such assets, too."""
    noted = engine.tenants()
    own = deployment.of_settings(configured).ids if noted else ()
    others = sorted((asset, str(whose)) for asset, whose in noted.items() if whose.id not in own)
    if not others:
        return ""
    more = "" if len(others) <= MOST_NAMED else f" and {len(others) - MOST_NAMED} more"
    return "; of others: " + ", ".join(f"{asset} of {whose}" for asset, whose in others[:MOST_NAMED]) + more


def _bucket(what: str, url: str | None) -> Iterator[Answer]:
    """What a lake in a bucket rests on, tried there; a lake in a folder is answered for by the file system's."""
    if url is None:
        return
    try:
        found = trial.of(url)
    except EtlError as error:
        yield Answer(what, False, str(error))
        return
    advice = "Two writers of one day could both win: use a server that has conditional writes."
    ignored = ", ".join(found.ignored)
    said = f"{url} can be listed, written and read; two writers collide"
    yield Answer(what, not ignored, f"{ignored} is ignored by {url}" if ignored else said, advice)
    off = found.clock_off_seconds
    agree = f"agree within {off:.0f} s" if off <= MOST_BUCKET_CLOCK_SECONDS else f"are {off:,.0f} s apart"
    told = f"{url} and this machine {agree}"
    advice = "Let this machine's clock follow a time server (NTP): past 15 minutes the server refuses everything."
    yield Answer(f"clock of the {what}", off <= MOST_BUCKET_CLOCK_SECONDS, told, advice)


def _what_comes_in(configured: Settings) -> Iterator[Answer]:
    """Whose the prefix is that objects come in by, and whether one that is replaced can get lost there."""
    if configured.incoming_url is None:
        return
    try:
        from etl_project.sources import looking, owner  # noqa: PLC0415  # Needs an extra.

        places = looking.Places(configured)
        for one in (places.archive, places.quarantine):
            trial.of(one.shown)
        is_ours = owner.look(places.incoming, configured.data_dir)
        is_safe = places.removal.keeps_conditions()
    except EtlError as error:
        yield Answer("objects", False, str(error))
        return
    where = f"{places.archive.shown} and {places.quarantine.shown}"
    how = "only as it was read" if is_safe else "after one more look: the server has no DELETE with If-Match"
    whose = "is this deployment's" if is_ours else "is nobody's yet"
    yield Answer("objects", True, f"{places.incoming.shown} {whose}; an object leaves it {how}, to {where}")


def _pipelines(load_pipelines: Callable[[], str]) -> Answer:
    try:
        return Answer("pipelines", True, load_pipelines())
    except Exception as error:  # noqa: BLE001  # Anything may be wrong in a user's module: that is the answer.
        said = " ".join(str(error).split())
        return Answer("pipelines", False, f"{type(error).__name__}: {said[:500]}", "Correct it: nothing runs before.")
