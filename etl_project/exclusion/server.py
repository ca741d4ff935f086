"""Server: a PostgreSQL database that keeps state for several machines, and one clear error for whatever is wrong.

Belongs here: the address and what of it may be shown, transactions of one call, and what the server's errors mean. Does
not belong here: any table; each lives with the module that uses it. A connection lasts for one call: nothing is shared
between threads, carried over a fork, or lost with a restart of the server in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from etl_project.failures import Busy, EtlError, Permanent, Transient

PATIENCE_SECONDS = 20
"""How long one statement may wait for another machine's transaction, which takes milliseconds unless it was stopped."""
STOPPED_SECONDS = 10
"""A transaction whose process was stopped in the middle is ended by the server: everybody waits for it."""

_DEFAULTS = {
    "connect_timeout": "10",
    # A server, or a way to it, that is gone is found out in half a minute; Linux would take two hours.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}
_SECRETS = ("password", "sslpassword")
_LIMITS = (
    f"SET LOCAL lock_timeout = '{PATIENCE_SECONDS}s'; SET LOCAL statement_timeout = '{2 * PATIENCE_SECONDS}s'; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{STOPPED_SECONDS}s'"
)

_USER = "Correct the user or the password (in ETL_LOCKS, PGPASSWORD or ~/.pgpass)."
_RIGHTS = (
    "Give the role CREATE on the database for its first start, or make the schema for it: CREATE SCHEMA etl_locks "
    "AUTHORIZATION role. Where its tables are there: USAGE on the schema and its sequence; SELECT, INSERT, UPDATE and "
    "DELETE on its tables. The server must be no read-only copy."
)
_DATABASE = "Correct the database's name, or make it: CREATE DATABASE."
_OTHER_TABLES = "42..."
_MAY_BE_DROPPED = "With all runs stopped the schema may be dropped: it holds locks, no data."
_BY_CODE = {  # https://www.postgresql.org/docs/current/errcodes-appendix.html
    "28...": _USER,
    "3D000": _DATABASE,
    "42501|25006": _RIGHTS,
    _OTHER_TABLES: "The tables in the schema etl_locks are not those of this version.",
}
_BY_TEXT = {  # Of what cannot connect libpq says nothing but a text.
    r"authentication failed|no password supplied|pg_hba.conf|role \"[^\"]*\" does not exist": _USER,
    r"database \"[^\"]*\" does not exist": _DATABASE,
    r"invalid (?:connection option|URI|port|sslmode)|certificate|server does not support SSL": "Correct the address in "
    "ETL_LOCKS.",
}
_BUSY = re.compile(r"55P03|57014|40...|25P03")


class LocksBusy(Busy):
    """Another machine is writing to the same tables. Nothing was changed; retrying helps."""


class LocksUnavailable(Transient):
    """The server does not answer, or broke off. Nothing was changed; retrying helps once it does."""

    splits = False


class LocksUnusable(Permanent):
    """The server refuses us, or has other tables. Retrying does not help: somebody has to change something."""

    splits = False


@dataclass(frozen=True)
class Server:
    """A database, by its address without passwords; those are shown nowhere."""

    shown: str
    _secrets: tuple[tuple[str, str], ...] = field(repr=False, default=())
    what: str = "The task locks"
    schema: str = "etl_locks"
    of_other_version: str = _MAY_BE_DROPPED
    """What to do about tables of another version."""

    @classmethod
    def at(
        cls,
        url: str,
        what: str = "The task locks",
        schema: str = "etl_locks",
        of_other_version: str = _MAY_BE_DROPPED,
    ) -> Server:
        """The server that a setting names, and what is kept there, in which schema.

        Raises LocksUnusable (retrying does not help) for what is no address.
        """
        try:
            parts: dict[str, Any] = conninfo_to_dict(url)
        except psycopg.Error:
            parts = {}  # What libpq says about an address quotes it, password included.
        if not parts.get("dbname"):
            raise LocksUnusable(
                "ETL_LOCKS is no address of a database that PostgreSQL understands. Retrying does not help. Write it "
                "like postgresql://etl@db.example.com/etl (the password in PGPASSWORD or ~/.pgpass)."
            )
        secrets = tuple((name, str(parts.pop(name))) for name in _SECRETS if name in parts)
        secrets = tuple((name, secret) for name, secret in secrets if secret)
        return cls(make_conninfo(**parts), secrets, what, schema, of_other_version)

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """All of the block or nothing: an exception, a kill or a lost connection rolls back.

        Raises LocksBusy, LocksUnavailable (retrying helps; after a lost answer to COMMIT the caller has to undo), and
        LocksUnusable (it does not).
        """
        with self.explained():
            told = make_conninfo(self.shown, **{**_DEFAULTS, **self._own_parts(), **dict(self._secrets)})
            with psycopg.connect(told, prepare_threshold=None) as connection:
                connection.execute(_LIMITS)
                yield connection

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What the server and the way to it say, as one error that names the server, and what to do."""
        try:
            yield
        except psycopg.Error as error:
            raise self._meaning(error.sqlstate or "", str(error)) from None
        except OSError as error:
            raise self._meaning("", str(error)) from error

    def _own_parts(self) -> dict[str, Any]:
        return {name: value for name, value in conninfo_to_dict(self.shown).items() if value is not None}

    def _meaning(self, code: str, said: str) -> EtlError:
        line = " ".join(said.split()).rstrip(".")
        for _, secret in self._secrets:
            line = line.replace(secret, "***")
        told = f"{self.what} in PostgreSQL ({self.shown}): {line}. Nothing was changed;"
        if _BUSY.fullmatch(code):
            return LocksBusy(f"{told} retrying helps: another machine was in the way.")
        known = _BY_CODE if code else _BY_TEXT
        for pattern, advice in known.items():
            if re.fullmatch(pattern, code) if code else re.search(pattern, said):
                more = f" {self.of_other_version}" if pattern == _OTHER_TABLES else ""
                return LocksUnusable(f"{told} retrying does not help. {advice.replace('etl_locks', self.schema)}{more}")
        return LocksUnavailable(f"{told} retrying helps once the server answers.")
