"""The server of the locks: what it says is shown, and no password in it."""

from __future__ import annotations

import pytest

pytest.importorskip("psycopg", reason="needs the extra `postgres`")

from pathlib import Path

import psycopg

from etl_project.exclusion.jobs import LockBusy
from etl_project.exclusion.keeper import locks_at
from etl_project.exclusion.server import LocksUnavailable, LocksUnusable, Server
from etl_project_tests import postgres
from etl_project_tests.crash.locks.places import Database


@pytest.mark.parametrize("password", ["", "sec-ret"])
def test_what_the_server_says_is_readable_whether_the_address_has_a_password_or_an_empty_one(password: str) -> None:
    server = Server.at(f"postgresql://etl@db.example.com/etl?password={password}")
    with pytest.raises(LocksUnavailable, match="it is gone: ") as told, server.explained():
        raise psycopg.OperationalError(f"it is gone: {password or 'why'}")
    assert "sec-ret" not in f"{told.value} {server!r}" and str(told.value).count("***") == bool(password)


@pytest.mark.servers
@postgres.needed
def test_a_role_that_may_make_nothing_has_locks_once_their_tables_are_there(tmp_path: Path) -> None:
    database = Database.of(tmp_path)
    there = (
        "USAGE ON SCHEMA etl_locks",
        "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA etl_locks",
        "USAGE ON ALL SEQUENCES IN SCHEMA etl_locks",
    )
    with (
        postgres.role_of(tmp_path) as nobody,
        pytest.raises(LocksUnusable, match=r"permission denied.*Give the role CREATE on the database"),
    ):
        locks_at(postgres.plain_url_of(tmp_path, **nobody), tmp_path, 600.0).examined()
    makers = database.locks()
    makers.examined()  # As `etl doctor` does, with a role that may.
    with postgres.role_of(tmp_path, *there) as role:
        less = locks_at(postgres.plain_url_of(tmp_path, **role), tmp_path, 600.0)
        with less.take("a run", [("orders", "2025-03-03")], 0.0) as lease, less.announced("a run", 0.0):
            lease.check()
            with pytest.raises(LockBusy):
                makers.take("another", [("orders", "2025-03-03")], 0.0)
            assert database.count("a run") == 1
        assert less.deployment_id("first") == "first" == makers.deployment_id("second")
        assert "0 partitions held" in less.examined()
