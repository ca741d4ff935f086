"""Claims on incoming keys: at most one upload holds a key, and its effect happens exactly once.

Belongs here: who may act for a key, and the steps from the first byte to the answer. Does not belong here: HTTP.

The effect of an upload is one rename, of a temporary file whose name nobody else ever uses. The claim knows that name
before the file exists, so whatever a kill leaves can be told from the outside:

    receiving  the temporary file is incomplete or absent: remove it, nothing happened
    landed     it was complete and synced, and the answer is fixed: is it still there, rename it; if not, that happened
    done       as landed with the file gone; a note made in bulk, so that nobody has to look again

An owner is a process, which renews the lease of its claims. Another may take a claim over as soon as the owner is
known to be dead, or when the lease has run out. The temporary name is also the fence: whoever lost it changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from etl_project import atomic, faults
from etl_project.exclusion import processes
from etl_project.failures import EtlError, Transient
from etl_project.http_in.database import RecordsFull, Rows, Statements
from etl_project.http_in.group_commit import GroupCommit

_LOG = logging.getLogger("etl.receiver")
_PREFIX = f"{atomic.TEMPORARY_PREFIX}upload-"
"""Temporary files of uploads can be told from those of other writers: without a claim they are rubbish."""

_GONE = ""
"""The owner of a claim whose process gave it up: anybody may take it over."""


@dataclass(frozen=True)
class Upload:
    """A claim that is ours: write to `temporary`, then land it as `target`."""

    temporary: Path
    target: Path


@dataclass(frozen=True)
class Answered:
    """The first answer to a key, to be replayed to whoever sends the same request and body again."""

    request: str
    body_sha256: str
    status: int
    answer: str


class Recovered(NamedTuple):
    """How many claims were finished or undone, and what could not be renamed, with the reason."""

    claims: int
    stuck: tuple[str, ...]


class InProgress(Transient):
    """Another request holds the key. Nothing was changed; retrying helps."""


class ClaimLost(Transient):
    """The lease ran out and another request has the key now. Nothing was changed; retrying helps."""


class Claims:
    """The claims in one database; every state change is one transaction."""

    def __init__(self, database: Rows, lease_seconds: float) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._owner = processes.this_process().to_json()
        self._sync = GroupCommit(_sync_folders)
        self._given_up: set[str] = set()
        """Temporary files of claims that we gave up while that could not be recorded: they are nobody's already."""

    def claim(self, client: str, key: str, request: str, target: Path) -> Upload | Answered:
        """The key is ours until it is landed or released, or it already has its answer.

        `target` counts for the first request only. Raises InProgress (retrying helps). A kill leaves a claim of a
        dead owner, which the next request takes over.
        """
        with self._database.transaction(durable=False) as connection:
            row = connection.execute(f"{self._select()} where client = ? and key = ?", (client, key)).fetchone()
            if row is None:
                return self._insert(connection, client, key, request, target)
            if self._in_progress(row):
                raise InProgress(f"Another request with key {key!r} is in progress.")
            if row["state"] == "receiving":
                connection.execute("delete from claims where temporary = ?", (row["temporary"],))
                upload = self._insert(connection, client, key, request, target)
        if row["state"] == "receiving":
            Path(row["temporary"]).unlink(missing_ok=True)
            return upload
        if row["state"] == "landed":
            _rename_once(_upload(row))
        return Answered(row["request"], row["body_sha256"], row["status"], row["answer"])

    def land(self, upload: Upload, body_sha256: str, status: int, answer: str) -> None:
        """Make the complete and synced temporary file the target; from here on the answer is fixed.

        The record relies on the temporary file's name, so that name is on the disk before it. Raises ClaimLost
        (retrying helps): then nothing was changed. A kill before the commit leaves nothing, a kill after it a file
        that the next start or request renames.
        """
        self._sync(upload.temporary.parent)
        faults.reach("receiver.synced")
        landed = self._database.execute_together(
            "update claims set state = 'landed', body_sha256 = ?, status = ?, answer = ?, "
            f"updated_at = {self._database.moment()} where temporary = ? and state = 'receiving'",
            (body_sha256, status, answer, str(upload.temporary)),
        )
        if landed != 1:
            raise ClaimLost("The upload took longer than its lease, and another request has taken the key over.")
        faults.reach("receiver.landed")
        # No need to sync the folder: should a power cut undo the rename, the temporary file is there again, and so is
        # the record that has it renamed.
        _rename_once(upload)
        faults.reach("receiver.renamed")

    def release(self, upload: Upload) -> None:
        """Give the key up after a failure: unlanded, nothing of the upload stays; landed, anybody may finish it.

        On a full disk the file goes first, and its room is what the record is written to. What cannot be recorded even
        so is made up for by `recover`; it is no failure of the upload, so nothing is raised for it.
        """
        try:
            try:
                self._give_up(upload)
            except RecordsFull:
                if self._landed(upload):
                    raise
                upload.temporary.unlink(missing_ok=True)
                self._give_up(upload)
            self._given_up.discard(str(upload.temporary))
        except (EtlError, OSError) as error:
            self._given_up.add(str(upload.temporary))
            _LOG.warning("the key of %s could not be given up yet: %s", upload.target.name, error)

    def _give_up(self, upload: Upload) -> None:
        with self._database.transaction(durable=False) as connection:
            connection.execute(
                "delete from claims where temporary = ? and state = 'receiving'", (str(upload.temporary),)
            )
            landed = connection.execute(
                "update claims set owner = ? where temporary = ? and state = 'landed'", (_GONE, str(upload.temporary))
            ).rowcount
        if landed == 0:
            upload.temporary.unlink(missing_ok=True)

    def _landed(self, upload: Upload) -> bool:
        with self._database.transaction(durable=False) as connection:
            row = connection.execute(
                "select state from claims where temporary = ?", (str(upload.temporary),)
            ).fetchone()
        return row is not None and row["state"] != "receiving"

    def renew(self) -> None:
        """Extend the lease of everything this process holds."""
        with self._database.transaction(durable=False) as connection:
            connection.execute(
                f"update claims set lease_until = {self._lease_end()} where owner = ? and state <> 'done'",
                (self._owner,),
            )

    def recover(self) -> Recovered:
        """Finish or undo what dead owners left, and note what has happened.

        Doing it twice changes nothing more. What cannot be renamed (a folder has its name now) stays as it is, for the
        next time, and keeps nothing else back. Raises RecordsFull and RecordsBusy (retrying helps), after all that
        frees room.
        """
        with self._database.transaction(durable=False) as connection:
            open_rows = connection.execute(f"{self._select()} where state <> 'done'").fetchall()
        self._given_up &= {row["temporary"] for row in open_rows}
        free = [row for row in open_rows if not self._in_progress(row)]
        for row in free:
            if row["state"] == "receiving":
                self.release(_upload(row))
        stuck: list[str] = []
        settled = []
        for upload in (_upload(row) for row in free if row["state"] == "landed"):
            try:
                _rename_once(upload)
                settled.append(upload)
            except OSError as error:
                stuck.append(f"{upload.target}: {error.strerror}")
        if settled:
            self._note(settled)
        return Recovered(len(free) - len(stuck), tuple(sorted(stuck)))

    def sweep(self, folder: Path) -> int:
        """Remove temporary files that no claim names, from all sources; their number.

        They are left by a kill between giving a claim up and removing its file. A claim is always there before its
        file, so a file that is seen first and has no claim after that is nobody's.
        """
        seen = list(folder.glob(f"*/{_PREFIX}*{atomic.TEMPORARY_SUFFIX}"))
        with self._database.transaction(durable=False) as connection:
            rows = connection.execute("select temporary from claims where state <> 'done'")
            claimed = {row["temporary"] for row in rows}
        rubbish = [path for path in seen if str(path) not in claimed]
        for path in rubbish:
            with contextlib.suppress(IsADirectoryError, PermissionError):  # Not a file of ours, whatever its name.
                path.unlink(missing_ok=True)
        return len(rubbish)

    def forget(self, keep: timedelta) -> int:
        """Drop answers older than `keep`; the number of keys that are free again."""
        with self._database.transaction(durable=False) as connection:
            forgotten: int = connection.execute(
                f"delete from claims where state = 'done' and updated_at < {self._database.moment()} - ?",
                (keep.total_seconds(),),
            ).rowcount
        return forgotten

    def _insert(self, connection: Statements, client: str, key: str, request: str, target: Path) -> Upload:
        upload = Upload(target.parent / f"{_PREFIX}{uuid.uuid4().hex}{atomic.TEMPORARY_SUFFIX}", target)
        connection.execute(
            "insert into claims (client, key, request, state, temporary, target, owner, lease_until, updated_at)"
            f" values (?, ?, ?, 'receiving', ?, ?, ?, {self._lease_end()}, {self._database.moment()})",
            (client, key, request, str(upload.temporary), str(target), self._owner),
        )
        return upload

    def _note(self, settled: list[Upload]) -> None:
        """Note what happened, after it is on the disk: nobody looks for the temporary file of a `done` claim."""
        _sync_folders([upload.target.parent for upload in settled])
        with self._database.transaction(durable=False) as connection:
            connection.executemany(
                "update claims set state = 'done' where temporary = ?", [(str(u.temporary),) for u in settled]
            )

    def _in_progress(self, row: Any) -> bool:
        """Whether somebody may still be at work on it. What has been renamed is over, whatever its owner does now."""
        over = row["state"] == "done" or (row["state"] == "landed" and not Path(row["temporary"]).exists())
        return not over and row["temporary"] not in self._given_up and not self._may_take_over(row)

    def _may_take_over(self, row: Any) -> bool:
        """Whether its owner is gone: it has said so, its lease has run out, or it is known to be dead."""
        if row["owner"] == _GONE or row["run_out"]:
            return True
        return self._database.knows_dead(processes.Owner.from_json(row["owner"]))

    def _select(self) -> str:
        return f"select claims.*, lease_until < {self._database.moment()} as run_out from claims"

    def _lease_end(self) -> str:
        return f"{self._database.moment()} + {self._lease_seconds!r}"


def _sync_folders(folders: list[Path]) -> list[None]:
    for folder in set(folders):
        atomic.sync_folder(folder)
    return [None] * len(folders)


def _rename_once(upload: Upload) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rename(upload.temporary, upload.target)


def _upload(row: Any) -> Upload:
    return Upload(Path(row["temporary"]), Path(row["target"]))
