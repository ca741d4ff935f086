"""The records of keys on a PostgreSQL server, for receivers on several machines behind one address.

Belongs here: the table in the schema `etl_receiver`, its transactions and its clock, and that all receivers share one
drop folder. What the rows mean is `claims`'. The connection and its errors are those of the task locks.

It keeps what the file of one machine keeps (`database`), but for who is alive: a pid means nothing on another machine,
so there the lease decides, on the server's clock alone. One transaction at a time writes: as long as a claim takes.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from psycopg import Cursor
from psycopg.rows import dict_row

from etl_project import atomic
from etl_project.exclusion import LocksBusy, LocksUnavailable, LocksUnusable, Server, processes
from etl_project.http_in.database import FULL, MARK, RecordsBusy, RecordsFull, RecordsUnusable
from etl_project.http_in.group_commit import GroupCommit

SCHEMA = "etl_receiver"

_LOG = logging.getLogger("etl.receiver")
_OF_OTHER_VERSION = (
    "Start the version that made them, and do not drop the schema: without it uploads that were answered are lost, and "
    "keys that were used have a second effect."
)
_IS_THERE = f"SELECT to_regclass('{SCHEMA}.claims') IS NOT NULL AND to_regclass('{SCHEMA}.folder') IS NOT NULL AS it_is"
_ALONE = "SELECT pg_advisory_xact_lock(hashtext('etl_receiver'))"
_TABLES = f"""
CREATE TABLE {SCHEMA}.claims (
    client text NOT NULL, key text NOT NULL, request text NOT NULL,
    state text NOT NULL CHECK (state IN ('receiving', 'landed', 'done')),
    temporary text NOT NULL UNIQUE, target text NOT NULL, owner text NOT NULL, lease_until double precision NOT NULL,
    body_sha256 text, status integer, answer text, updated_at double precision NOT NULL, PRIMARY KEY (client, key)
);
CREATE INDEX claims_by_state ON {SCHEMA}.claims (state, updated_at);
CREATE TABLE {SCHEMA}.folder (mark text NOT NULL, path text NOT NULL);
"""


class _Statements:
    """Statements as they are written for the file: `?` stands for a value, names of tables have no schema."""

    def __init__(self, cursor: Cursor[dict[str, Any]]) -> None:
        self._cursor = cursor

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> Cursor[dict[str, Any]]:
        return self._cursor.connection.cursor(row_factory=dict_row).execute(sql.replace("?", "%s").encode(), parameters)

    def executemany(self, sql: str, parameters: Sequence[Sequence[object]]) -> None:
        self._cursor.executemany(sql.replace("?", "%s").encode(), parameters)


class ServerRecords:
    """As `database.Rows`, on the server at `url`, which may hold a password; `incoming` is the drop folder."""

    def __init__(self, url: str, incoming: Path, former: Sequence[Mapping[str, Any]] = ()) -> None:
        """Make the tables if need be, and take over the answers of keys that a file of this machine had.

        Raises RecordsBusy (retrying helps), RecordsUnusable (it does not): the server refuses us, or the receivers have
        different drop folders, so that none could finish what another has left.
        """
        try:
            self._server = Server.at(url, "The keys of uploads", SCHEMA, _OF_OTHER_VERSION)
        except LocksUnusable as error:
            raise RecordsUnusable(str(error)) from None
        self._commit = GroupCommit(self._execute_all)
        mark = _mark_of(incoming)
        with self._begun() as cursor:
            cursor.execute(_ALONE)
            self._make(cursor)
            _refuse_another_folder(cursor, incoming, mark)
            _take_over(cursor, former)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[_Statements]:
        """All statements of the block, or none of them; a kill or a lost connection leaves none.

        Raises RecordsBusy (retrying helps; the answer to COMMIT may be what was lost), RecordsUnusable (it does not).
        """
        with self._begun() as cursor:
            cursor.execute(f"SET LOCAL search_path = {SCHEMA}")
            cursor.execute("LOCK TABLE claims IN SHARE ROW EXCLUSIVE MODE")
            yield _Statements(cursor)

    def execute_together(self, sql: str, parameters: tuple[object, ...]) -> int:
        """How many rows the statement changed; statements that wait at the same time share one commit."""
        return self._commit((sql, parameters))

    def moment(self) -> str:
        """The server's clock."""
        return "extract(epoch from clock_timestamp())::double precision"

    def knows_dead(self, owner: processes.Owner) -> bool:
        """Of processes of other machines nothing is known."""
        return processes.is_dead_here(owner)

    def close(self) -> None:
        """Nothing is open between transactions."""

    @contextmanager
    def _begun(self) -> Iterator[Cursor[dict[str, Any]]]:
        try:
            with self._server.transaction() as connection, connection.cursor(row_factory=dict_row) as cursor:
                yield cursor
        except LocksUnusable as error:
            raise RecordsUnusable(str(error)) from None
        except (LocksBusy, LocksUnavailable) as error:
            _LOG.warning("%s", error)  # What it says of the server is nothing for who uploads.
            raise RecordsBusy("The records of keys cannot be reached at the moment.") from None

    def _execute_all(self, statements: list[tuple[str, tuple[object, ...]]]) -> list[int]:
        with self.transaction() as connection:
            return [connection.execute(sql, parameters).rowcount for sql, parameters in statements]

    def _make(self, cursor: Cursor[dict[str, Any]]) -> None:
        found = cursor.execute(_IS_THERE).fetchone()
        if found is not None and found["it_is"]:
            return
        schema = cursor.execute(f"SELECT to_regnamespace('{SCHEMA}') IS NOT NULL AS it_is").fetchone()
        if schema is None or not schema["it_is"]:
            cursor.execute(f"CREATE SCHEMA {SCHEMA}")
        cursor.execute(_TABLES)


def _refuse_another_folder(cursor: Cursor[dict[str, Any]], incoming: Path, mark: str) -> None:
    """Raise RecordsUnusable where other receivers have another drop folder, or the same one under another path."""
    found = cursor.execute(f"SELECT mark, path FROM {SCHEMA}.folder").fetchone()
    if found is None:
        cursor.execute(f"INSERT INTO {SCHEMA}.folder VALUES (%s, %s)", (mark, str(incoming)))
    elif (found["mark"], found["path"]) != (mark, str(incoming)):
        raise RecordsUnusable(
            f"The receivers that share their keys have the drop folder {found['path']}, this one has {incoming}, which "
            "is another one or has another path: none could finish what another has left. Retrying does not help. Give "
            "all the same folder under one path, or a database of their own (ETL_LOCKS); where the folder was moved, "
            f"stop them all and DELETE FROM {SCHEMA}.folder."
        )


def _mark_of(folder: Path) -> str:
    """The number of the folder; of two receivers that make one at once both get the same.

    Raises RecordsFull (retrying helps) and RecordsUnusable (it does not).
    """
    path = folder / MARK
    try:
        atomic.make_folder(folder)
        if not path.exists():
            temporary = atomic.temporary_sibling(path)
            try:
                temporary.write_text(uuid.uuid4().hex, encoding="ascii")
                with suppress(FileExistsError):
                    os.link(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        if error.errno in FULL:
            raise RecordsFull(f"{path}: no space is left on its disk; make room, retrying helps then.") from error
        raise RecordsUnusable(f"{path}: cannot be made ({error}); retrying does not help.") from error


def _take_over(cursor: Cursor[dict[str, Any]], former: Sequence[Mapping[str, Any]]) -> None:
    """Keep answers that were given before the keys were kept here; a key that is known here stays as it is."""
    if former:
        columns = (
            *("client", "key", "request", "state", "temporary", "target", "owner", "lease_until"),
            *("body_sha256", "status", "answer", "updated_at"),
        )
        values = ", ".join(f"%({name})s" for name in columns)
        cursor.executemany(
            f"INSERT INTO {SCHEMA}.claims ({', '.join(columns)}) VALUES ({values}) ON CONFLICT DO NOTHING".encode(),
            [dict(row) for row in former],
        )
