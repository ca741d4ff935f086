"""Records of what was posted: which content of an asset's day went out under which key, and what came back.

Belongs here: the rows and their states. Does not belong here: HTTP (`client`), keys of incoming requests (`claims`).

    pending   nothing of it has left this machine
    unknown   it may have arrived: a process died, a connection broke, the answer was no outcome
    sent      the receiver confirmed it; never changes again
    rejected  the receiver refused it for good; it had no effect
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Literal

from etl_project import utc
from etl_project.http_in import Database

State = Literal["pending", "sent", "rejected", "unknown"]
Failure = Literal["refused", "unconfirmed"]


@dataclass(frozen=True)
class DeliveryRecord:
    """One content of one asset's day for one endpoint. `endpoint` tells addresses apart without showing them.

    `failures`: calls in a row that ended without a confirmation, however many attempts each made; `failed_at`,
    `failure` and `problem` are of the last one.
    """

    key: str
    endpoint: str
    asset: str
    day: str
    content_hash: str
    supersedes: str | None
    state: State
    status: int | None
    response_digest: str | None
    attempts: int
    created_at: str
    updated_at: str
    failures: int
    failed_at: str | None
    failure: Failure | None
    problem: str | None


_COLUMNS = ", ".join(field.name for field in fields(DeliveryRecord))


class Deliveries:
    """The deliveries in one database; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def plan(
        self, endpoint: str, asset: str, day: date, content_hash: str, key_of: Callable[[str | None], str]
    ) -> DeliveryRecord:
        """The delivery that makes this content the last word on the day; the same one as long as it is that.

        `key_of` gives the key for the key that this content supersedes (None for a first one). A refused delivery had
        no effect, so nothing supersedes it; it stays refused until it is attempted again. Planning twice gives the same
        key; a kill leaves no row or a pending one.
        """
        where = (endpoint, asset, day.isoformat())
        with self._database.transaction() as connection:
            last = connection.execute(
                f"select {_COLUMNS} from deliveries where endpoint = ? and asset = ? and day = ?"
                " and state <> 'rejected' order by sequence desc limit 1",
                where,
            ).fetchone()
            if last is not None and last["content_hash"] == content_hash:
                return DeliveryRecord(**last)
            supersedes = None if last is None else last["key"]
            now = utc.now().isoformat()
            connection.execute(
                "insert into deliveries (key, endpoint, asset, day, content_hash, supersedes, state, created_at,"
                " updated_at) values (?, ?, ?, ?, ?, ?, 'pending', ?, ?)"
                " on conflict (key) do nothing",
                (key := key_of(supersedes), *where, content_hash, supersedes, now, now),
            )
            planned = connection.execute(f"select {_COLUMNS} from deliveries where key = ?", (key,)).fetchone()
            return DeliveryRecord(**planned)

    def start_attempt(self, key: str) -> tuple[int, State]:
        """Note, before the first byte leaves, that the outcome is unknown; gives attempt number and old state."""
        with self._database.transaction() as connection:
            before = connection.execute("select attempts, state from deliveries where key = ?", (key,)).fetchone()
            connection.execute(
                "update deliveries set attempts = attempts + 1, updated_at = ?,"
                " state = case state when 'sent' then 'sent' else 'unknown' end where key = ?",
                (utc.now().isoformat(), key),
            )
            return before["attempts"] + 1, before["state"]

    def settle(self, key: str, state: State, status: int | None = None, response_digest: str | None = None) -> None:
        """Note the outcome; `sent` stays whatever another process notes after it. Settling twice changes nothing."""
        with self._database.transaction() as connection:
            connection.execute(
                "update deliveries set state = ?, status = ?, response_digest = ?, updated_at = ?"
                " where key = ? and state <> 'sent'",
                (state, status, response_digest, utc.now().isoformat(), key),
            )

    def fail(self, key: str, failure: Failure, problem: str) -> None:
        """Note that a call ended without a confirmation, and why; a delivery that was confirmed stays as it is."""
        with self._database.transaction() as connection:
            connection.execute(
                "update deliveries set failures = failures + 1, failed_at = ?, failure = ?, problem = ?"
                " where key = ? and state <> 'sent'",
                (utc.now().isoformat(), failure, problem, key),
            )

    def unconfirmed_since_the_last_confirmation(self, endpoint: str, since: datetime) -> list[DeliveryRecord]:
        """Deliveries to the endpoint that failed after everything that it confirmed, and not before `since`."""
        with self._database.transaction(durable=False) as connection:
            rows = connection.execute(
                f"select {_COLUMNS} from deliveries where endpoint = ? and failure = 'unconfirmed' and state <> 'sent'"
                " and failed_at >= ? and failed_at > coalesce("
                " (select max(updated_at) from deliveries where endpoint = ? and state = 'sent'), '')"
                " order by failed_at",
                (endpoint, since.isoformat(), endpoint),
            )
            return [DeliveryRecord(**row) for row in rows]

    def of_asset(self, asset: str) -> list[DeliveryRecord]:
        """All deliveries of an asset, oldest first."""
        with self._database.transaction(durable=False) as connection:
            rows = connection.execute(f"select {_COLUMNS} from deliveries where asset = ? order by sequence", (asset,))
            return [DeliveryRecord(**row) for row in rows]

    def settled(self, endpoint: str, prefix: str) -> set[str]:
        """Names of the assets, of those that begin with `prefix`, that have a confirmed or refused delivery."""
        with self._database.transaction(durable=False) as connection:
            rows = connection.execute(
                "select distinct asset from deliveries where endpoint = ? and substr(asset, 1, ?) = ?"
                " and state in ('sent', 'rejected')",
                (endpoint, len(prefix), prefix),
            )
            return {row["asset"] for row in rows}
