"""Where the task locks are kept, for the tests that every place has to pass, and what lies there.

Belongs here: one class a place, which looks at its rows and changes them behind the back of the code.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from etl_project.exclusion.jobs import Locks, RunHasEnded, nobody_says_so
from etl_project.exclusion.keeper import locks_at
from etl_project_tests import postgres

KINDS = ["sqlite", pytest.param("postgres", marks=postgres.needed)]
JOBS = "SELECT job_id, run_id, generation FROM task_lock ORDER BY 1"
LONG_LEASE_SECONDS = 600.0
"""No machine is so busy that a lease runs out by itself."""


class Place(Protocol):
    """Where locks are kept; processes may share it."""

    def locks(self, run_has_ended: RunHasEnded = nobody_says_so) -> Locks: ...

    def rows(self, sql: str = JOBS) -> list[tuple[Any, ...]]: ...

    def change(self, sql: str) -> None: ...

    def count(self, run_id: str) -> int:
        """How many jobs the run holds."""


@dataclass(frozen=True)
class File:
    """The state file of one machine."""

    path: Path

    def locks(self, run_has_ended: RunHasEnded = nobody_says_so) -> Locks:
        return locks_at(None, self.path, run_has_ended=run_has_ended)

    def rows(self, sql: str = JOBS) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as db:
            return db.execute(sql).fetchall()

    def change(self, sql: str) -> None:
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute(sql)

    def count(self, run_id: str) -> int:
        """The file itself has to be sound, too."""
        assert self.rows("PRAGMA integrity_check") == [("ok",)]
        return sum(run == run_id for _, run, _ in self.rows())


@dataclass(frozen=True)
class Database:
    """A database of the server for tests."""

    url: str
    lease_seconds: float = LONG_LEASE_SECONDS

    @classmethod
    def of(cls, folder: Path, lease_seconds: float = LONG_LEASE_SECONDS) -> Database:
        """The database of the folder, without any locks."""
        made = cls(postgres.plain_url_of(folder), lease_seconds)
        with made._connected() as db:
            db.execute("DROP SCHEMA IF EXISTS etl_locks CASCADE")
        return made

    def locks(self, run_has_ended: RunHasEnded = nobody_says_so) -> Locks:
        return locks_at(self.url, Path(), self.lease_seconds, run_has_ended)

    def rows(self, sql: str = JOBS) -> list[tuple[Any, ...]]:
        with self._connected() as db:
            return [tuple(map(_as_text, row)) for row in db.execute(sql)]

    def change(self, sql: str) -> None:
        with self._connected() as db:
            db.execute(sql)

    def count(self, run_id: str) -> int:
        return sum(run == run_id for _, run, _ in self.rows())

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        told = make_conninfo(self.url, options="-c search_path=etl_locks -c timezone=UTC")
        return psycopg.connect(told, autocommit=True)


def _as_text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
