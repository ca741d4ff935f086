"""The keeper of a running receiver's claims: opened as soon as that is possible, then kept up.

Belongs here: what happens without a request: opening, recovering, renewing and forgetting, again and again. Does not
belong here: what a claim is (`claims`), and any answer.

A receiver starts whatever the disk looks like: as long as its records cannot be opened for want of room, every upload
is told so, and the first round or request that finds room goes on as if nothing had been.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from anyio import to_thread

from etl_project.failures import EtlError, Transient
from etl_project.http_in.claims import Claims
from etl_project.http_in.database import (
    LEAST_BYTES,
    MARK,
    Database,
    RecordsBusy,
    RecordsFull,
    RecordsUnusable,
    Rows,
    Statements,
    free_bytes,
)
from etl_project.http_in.settings import Receiver
from etl_project.settings import Settings

_LOG = logging.getLogger("etl.receiver")
_TRY_SECONDS = 2.0


class Keeper:
    """The claims on the records in the data folder; safe to share between threads."""

    def __init__(self, settings: Settings, receiving: Receiver) -> None:
        self._settings = settings
        self._receiving = receiving
        self._lock = Lock()
        self._database: Rows | None = None
        self._claims: Claims | None = None
        self._stuck: tuple[str, ...] = ()

    def claims(self) -> Claims:
        """The claims, after what a killed receiver left was finished or undone.

        Raises RecordsFull and RecordsBusy (retrying helps), RecordsUnusable (it does not). Opening leaves nothing
        behind when it fails.
        """
        with self._lock:
            if self._claims is None:
                self._claims = self._opened()
            return self._claims

    def check(self) -> None:
        """Whether an upload could be recorded now. Raises what `claims` raises."""
        self.claims().renew()
        if free_bytes(self._settings.incoming) < LEAST_BYTES:
            raise RecordsFull(f"{self._settings.incoming}: less than {LEAST_BYTES} bytes are left on its disk.")

    async def start(self) -> None:
        """Open the records if they can be opened now. Raises RecordsUnusable (retrying does not help)."""
        try:
            await to_thread.run_sync(self.claims)
        except Transient as error:
            _LOG.error("started without its records, uploads are refused until they can be opened: %s", error)

    async def keep_up(self) -> None:
        """Renew our leases, take over what others left behind, forget what is past its time; until cancelled."""
        every = self._receiving.lease_seconds / 3
        while True:
            await asyncio.sleep(every if self._claims else min(every, _TRY_SECONDS))
            try:
                await to_thread.run_sync(self._round)
            except (EtlError, OSError) as error:
                # The next round tries again; ending here would silently stop renewing.
                _LOG.error("upkeep of the keys failed, the next round tries again: %s", error)

    def close(self) -> None:
        """Close the records, if they were opened."""
        if self._database is not None:
            self._database.close()

    def _opened(self) -> Claims:
        database = self._records()
        try:
            claims = Claims(database, self._receiving.lease_seconds)
            self._recover(claims)
            swept = claims.sweep(self._settings.incoming)
        except BaseException:
            database.close()
            raise
        if swept:
            _LOG.info("removed %d left-over files", swept)
        self._database = database
        return claims

    def _records(self) -> Rows:
        """In the file of this machine, or where the task locks of several machines are (ETL_LOCKS)."""
        path = self._settings.data_dir / "delivery.sqlite"
        if self._settings.locks_url is None:
            _refuse_shared_folder(self._settings.incoming / MARK)
            return Database(path)
        try:
            from etl_project.http_in.server_records import ServerRecords  # noqa: PLC0415  # An extra, psycopg.
        except ImportError as error:
            raise RecordsUnusable(
                f"Keys in PostgreSQL (ETL_LOCKS) need the extra `postgres` ({error.name or error}): "
                "pip install 'etl-project[postgres]'."
            ) from None
        if not path.exists():
            return ServerRecords(self._settings.locks_url, self._settings.incoming)
        own = Database(path)
        try:
            recovered = Claims(own, self._receiving.lease_seconds).recover()
            with own.transaction() as connection:
                _refuse_unfinished(path, connection, recovered.stuck)
                former = connection.execute("select * from claims where state = 'done'").fetchall()
            found = ServerRecords(self._settings.locks_url, self._settings.incoming, former)
            with own.transaction() as connection:
                connection.execute("delete from claims where state = 'done'")
            return found
        finally:
            own.close()

    def _round(self) -> None:
        claims = self.claims()
        claims.renew()
        self._recover(claims)
        claims.forget(self._receiving.keys_kept)

    def _recover(self, claims: Claims) -> None:
        recovered = claims.recover()
        if recovered.claims:
            _LOG.info("recovered %d unfinished uploads", recovered.claims)
        if recovered.stuck and recovered.stuck != self._stuck:
            _LOG.error(
                "%d uploads were answered and cannot get their names; each round tries again: %s",
                len(recovered.stuck),
                "; ".join(recovered.stuck[:10]),
            )
        self._stuck = recovered.stuck


def _refuse_shared_folder(mark: Path) -> None:
    """Raise RecordsUnusable where the keys are on a server: uploads of its receivers would be rubbish to the file."""
    if mark.exists():
        raise RecordsUnusable(
            f"{mark} says that the keys of uploads into this folder are in PostgreSQL, and ETL_LOCKS is not set. "
            "Retrying does not help: set it as for the receivers before. To leave the server for good, stop them all "
            "while nothing is being uploaded, and remove that file; answers given until then are not repeated."
        )


def _refuse_unfinished(path: Path, connection: Statements, stuck: Sequence[str]) -> None:
    """Raise RecordsBusy while somebody still works with the file: to the server's records its uploads are rubbish."""
    [left] = connection.execute("select count(*) from claims where state <> 'done'").fetchone()
    if left:
        raise RecordsBusy(
            f"{path}: {left} uploads are not finished there, so their keys cannot move to the server yet; retrying "
            "helps once the receiver that works with the file was stopped"
            + (f", and these can get their names: {'; '.join(stuck[:10])}." if stuck else ".")
        )
