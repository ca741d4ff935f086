"""The SQLite file behind deliveries and keys: one connection, short transactions, WAL where the disk allows it.

Belongs here: opening `delivery.sqlite`, its schema, and the transaction that everything else uses. Does not belong
here: what the rows mean (`records` for what goes out, `claims` for what comes in).
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from etl_project import atomic, sqlite_log, utc
from etl_project.exclusion import processes
from etl_project.failures import Permanent, Transient
from etl_project.http_in.group_commit import GroupCommit

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a disk, or a user's part of it, that is full."""

MARK = ".etl-receivers"
"""A file in the drop folder with a number, where the keys are on a server (`server_records`): receivers that find
another number there do not share the folder."""

LEAST_BYTES = 1 << 20
"""Room that the records need to be written at all: some pages, and the index of their log."""

_WAIT_SECONDS = 15.0
_PERHAPS_FULL = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
"""What SQLite says of files that it could not make or lengthen, whatever the reason."""

_SCHEMA = """
create table if not exists deliveries (
    sequence        integer primary key autoincrement,
    key             text not null unique,
    endpoint        text not null,
    asset           text not null,
    day             text not null,
    content_hash    text not null,
    supersedes      text,
    state           text not null check (state in ('pending', 'sent', 'rejected', 'unknown')),
    status          integer,
    response_digest text,
    attempts        integer not null default 0,
    created_at      text not null,
    updated_at      text not null
);
create index if not exists deliveries_of_day on deliveries (endpoint, asset, day);
create table if not exists claims (
    client      text not null,
    key         text not null,
    request     text not null,
    state       text not null check (state in ('receiving', 'landed', 'done')),
    temporary   text not null unique,
    target      text not null,
    owner       text not null,
    lease_until real not null,
    body_sha256 text,
    status      integer,
    answer      text,
    updated_at  real not null,
    primary key (client, key)
) without rowid;
create index if not exists claims_by_state on claims (state, updated_at);
"""

_ADDED = {"failures": "integer not null default 0", "failed_at": "text", "failure": "text", "problem": "text"}
"""Columns of `deliveries` that files from before do not have."""

_INDEXES = """
create index if not exists deliveries_unconfirmed on deliveries (endpoint, failed_at) where failure = 'unconfirmed';
create index if not exists deliveries_by_state on deliveries (endpoint, state, updated_at);
"""
"""They need those columns. Every day that is posted asks both: without them a range would cost its length squared."""


class RecordsBusy(Transient):
    """Somebody else holds the records. Nothing was changed; retrying helps."""


class RecordsFull(Transient):
    """There is no room for the records. Nothing was changed; retrying helps once there is."""


class RecordsUnusable(Permanent):
    """The file is not a database of ours or cannot be written. Retrying does not help."""


class Statements(Protocol):
    """What runs inside a transaction, with `?` for each value; rows are asked by the names of their columns."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any: ...
    def executemany(self, sql: str, parameters: Any, /) -> Any: ...


class Rows(Protocol):
    """Where the records of keys are: a file of this machine, or a server that several receivers share."""

    def transaction(self, *, durable: bool = True) -> AbstractContextManager[Statements]:
        """All statements of the block, or none of them; nobody else's transaction comes between them."""

    def execute_together(self, sql: str, parameters: tuple[object, ...]) -> int:
        """How many rows the statement changed, durably."""

    def moment(self) -> str:
        """The time now as a number in SQL, by the one clock that leases go by: seconds since 1970."""

    def knows_dead(self, owner: processes.Owner) -> bool:
        """Whether the process is known to be gone; of others the lease decides."""

    def close(self) -> None:
        """Let go of what is open; the records stay."""


class Database:
    """One open connection to `delivery.sqlite`, safe to share between the threads of one process."""

    def __init__(self, path: Path) -> None:
        """Open the file, creating it and its tables. Opening twice changes nothing.

        Raises RecordsFull and RecordsBusy (retrying helps) and RecordsUnusable (it does not).
        """
        self._path = path
        self._lock = Lock()
        self._commit = GroupCommit(self._execute_all)
        self._durable: bool | None = None
        try:
            atomic.make_folder(path.parent)
            self._logs = sqlite_log.fits(path.parent)
        except OSError as error:
            if error.errno in FULL:
                raise RecordsFull(_no_room(path)) from error
            raise RecordsUnusable(f"{path}: cannot be created ({error}); retrying does not help.") from error
        with self._explained():
            self._connection = sqlite3.connect(
                path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._connection.row_factory = sqlite3.Row
                if self._logs:
                    self._connection.execute("pragma journal_mode = wal")
                self._connection.executescript(_SCHEMA)
                self._add_columns()
                self._connection.executescript(_INDEXES)
            except BaseException:
                self._connection.close()
                raise

    def _add_columns(self) -> None:
        """Bring a file from before up to date; two processes that do so at once add each column once."""
        if not self._missing():
            return
        self._connection.execute("begin immediate")
        for name in self._missing():
            self._connection.execute(f"alter table deliveries add column {name} {_ADDED[name]}")
        self._connection.execute("commit")

    def _missing(self) -> list[str]:
        present = {row["name"] for row in self._connection.execute("pragma table_info(deliveries)")}
        return [name for name in _ADDED if name not in present]

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All statements of the block, or none of them; a kill leaves none.

        `durable=False` skips the wait for the disk: right where losing the row to a power cut (never to a kill) is
        harmless. Raises RecordsBusy and RecordsFull (retrying helps) and RecordsUnusable (it does not).
        """
        with self._lock, self._explained():
            durable = durable or not self._logs
            if durable is not self._durable:
                # With NORMAL, the WAL is not synced at commit, and a rollback journal not always in time:
                # https://sqlite.org/pragma.html#pragma_synchronous
                self._connection.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
                self._durable = durable
            self._connection.execute("begin immediate")
            try:
                yield self._connection
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:  # A full disk makes SQLite roll back by itself, now and then.
                    self._connection.execute("rollback")
                raise

    def execute_together(self, sql: str, parameters: tuple[object, ...]) -> int:
        """How many rows the statement changed, durably; statements that wait at the same time share one commit.

        Each commit waits for the disk, one after the other: with a commit for each of many uploads at once, that
        queue would be the limit. Raises what `transaction` raises, for all who share the commit.
        """
        return self._commit((sql, parameters))

    def _execute_all(self, statements: list[tuple[str, tuple[object, ...]]]) -> list[int]:
        with self.transaction() as connection:
            return [connection.execute(sql, parameters).rowcount for sql, parameters in statements]

    def moment(self) -> str:
        """This machine's clock: nobody else uses the file."""
        return repr(utc.now().timestamp())

    def knows_dead(self, owner: processes.Owner) -> bool:
        """Of one in another pid namespace (a container that was restarted) nothing is known: its lease decides."""
        another_boot = owner.host != processes.this_host()[0]
        return another_boot or (processes.same_host(owner) and not processes.is_alive(owner))

    def close(self) -> None:
        """Close the connection; the records stay."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            kind = error.sqlite_errorcode & 0xFF
            if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise RecordsBusy(
                    f"{self._path}: still locked by another process after {_WAIT_SECONDS:g} s; retrying helps."
                ) from error
            if kind == sqlite3.SQLITE_FULL or (kind in _PERHAPS_FULL and free_bytes(self._path.parent) < LEAST_BYTES):
                raise RecordsFull(_no_room(self._path)) from error
            raise RecordsUnusable(f"{self._path}: {error}; retrying does not help before this is mended.") from error
        except sqlite3.DatabaseError as error:
            raise RecordsUnusable(f"{self._path}: {error}; move the file away or restore it.") from error


def free_bytes(folder: Path) -> int:
    """How much this user may still write to the disk of the folder; of the nearest folder above that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _no_room(path: Path) -> str:
    return f"{path}: no space is left on its disk; make room, retrying helps then."
