"""A deployment whose tables are in PostgreSQL: the same commands, the same rows, and no password anywhere."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from etl_project.storage.engines.postgres.engine import PostgresStore
from etl_project_tests import postgres
from etl_project_tests.deployments import Place, order_file

pytestmark = postgres.needed

DAY = date(2025, 3, 3)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_everything_that_the_project_does_with_a_warehouse_works_in_postgresql(tmp_path: Path) -> None:
    url = postgres.plain_url_of(tmp_path)
    password = str(conninfo_to_dict(postgres.SERVER)["password"])
    server = {"ETL_WAREHOUSE": url, "ETL_KEEP_VERSIONS": "3"}
    place, alone = Place(tmp_path / "data"), Place(tmp_path / "alone")
    for one, more in ((place, server), (alone, {})):
        one.drop(f"{DAY}.csv", order_file(DAY))
        one.drained(**more)
    store = PostgresStore(url)
    built = {key: commit.fingerprint for key, commit in store.last_commits().items()}
    assert built == {key: print_ for key, (_, print_, _) in alone.last_commits().items()}, "as in a DuckDB file"
    assert place.drained(**server).startswith("0 runs, 0 failed")
    place.drop(f"{DAY}.csv", order_file(DAY, price="9.75"))
    place.drained(**server)
    assert store.last_commits()["orders", str(DAY)].fingerprint != built["orders", str(DAY)]
    refused = place.etl("contract", "plan", "orders", **server)
    assert refused.returncode == 2 and "changes no tables of postgresql://" in refused.stderr
    back = place.etl("rollback", "orders", "--day", str(DAY), "--reason", "test", **server)
    assert back.returncode == 0, back.stdout + back.stderr
    assert store.last_commits()["orders", str(DAY)].fingerprint == built["orders", str(DAY)]
    said = [place.etl(*command, **server) for command in (("verify",), ("status", "--json"), ("doctor",))]
    for done in said:
        assert done.returncode == 0, done.stdout + done.stderr
        assert password not in done.stdout + done.stderr
    json.loads(said[1].stdout)
    assert "postgresql://" in said[2].stdout and not (place.data / "warehouse.duckdb").exists()
    holding = [path for path in place.data.rglob("*") if path.is_file()]
    assert holding and [path for path in holding if password.encode() in path.read_bytes()] == []


def test_a_wrong_password_is_one_line_of_every_command_and_stays_out_of_sight(tmp_path: Path) -> None:
    server = {"ETL_WAREHOUSE": postgres.plain_url_of(tmp_path, password="sec-ret-9"), "ETL_WAIT_SECONDS": "1"}
    place = Place(tmp_path / "data")
    place.drop(f"{DAY}.csv", order_file(DAY))
    for command in (("drain",), ("status",)):
        done = place.etl(*command, **server)
        assert done.returncode != 0 and "password authentication failed" in done.stdout + done.stderr
        assert "sec-ret-9" not in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert [p for p in place.data.rglob("*") if p.is_file() and b"sec-ret-9" in p.read_bytes()] == []
    assert (place.incoming / f"{DAY}.csv").exists(), "nothing is lost"
