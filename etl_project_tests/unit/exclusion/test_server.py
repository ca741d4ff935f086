"""The server of the locks: what it says is shown, and no password in it."""

from __future__ import annotations

import pytest

pytest.importorskip("psycopg", reason="needs the extra `postgres`")

import psycopg

from etl_project.exclusion.server import LocksUnavailable, Server


@pytest.mark.parametrize("password", ["", "sec-ret"])
def test_what_the_server_says_is_readable_whether_the_address_has_a_password_or_an_empty_one(password: str) -> None:
    server = Server.at(f"postgresql://etl@db.example.com/etl?password={password}")
    with pytest.raises(LocksUnavailable, match="it is gone: ") as told, server.explained():
        raise psycopg.OperationalError(f"it is gone: {password or 'why'}")
    assert "sec-ret" not in f"{told.value} {server!r}" and str(told.value).count("***") == bool(password)
