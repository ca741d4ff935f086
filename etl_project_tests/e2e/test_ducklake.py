"""A deployment whose tables are in a DuckLake: the same commands, the same rows, and no password anywhere."""

from __future__ import annotations

import json
import os
from datetime import date, timedelta
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from etl_project.storage.engines.ducklake.engine import DuckLakeStore
from etl_project_tests import postgres
from etl_project_tests.deployments import Place, order_file

pytestmark = postgres.needed

DAYS = [date(2025, 3, 3) + timedelta(n) for n in range(2)]


def prints(commits: dict[tuple[str, str | None], object]) -> dict[tuple[str, str | None], str]:
    return {key: commit.fingerprint for key, commit in commits.items()}  # type: ignore[attr-defined]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_everything_that_the_project_does_with_a_warehouse_works_on_a_lake(tmp_path: Path) -> None:
    url, files = postgres.url_of(tmp_path), tmp_path / "files"
    password = str(conninfo_to_dict(postgres.SERVER)["password"])
    lake = {"ETL_WAREHOUSE": url, "ETL_WAREHOUSE_DATA": str(files)}
    place, alone = Place(tmp_path / "data"), Place(tmp_path / "alone")
    for one, more in ((place, lake), (alone, {})):
        for day in DAYS:
            one.drop(f"{day}.csv", order_file(day))
        one.drained(**more)
    store = DuckLakeStore(url, files)
    built = prints(store.last_commits())  # type: ignore[arg-type]
    assert built == {key: print_ for key, (_, print_, _) in alone.last_commits().items()}, "as in a DuckDB file"
    assert place.drained(**lake).startswith("0 runs, 0 failed") and prints(store.last_commits()) == built  # type: ignore[arg-type]
    place.drop(f"{DAYS[0]}.csv", order_file(DAYS[0], price="9.75"))
    place.drained(**lake)
    changed = {key for key, value in prints(store.last_commits()).items() if built[key] != value}  # type: ignore[arg-type]
    assert {key for _, key in changed} == {DAYS[0].isoformat()} and ("orders", DAYS[0].isoformat()) in changed
    refused = place.etl("contract", "plan", "orders", **lake)
    assert refused.returncode == 2 and "DROP TABLE name" in refused.stderr and "`etl drain`" in refused.stderr
    before = prints(store.last_commits())  # type: ignore[arg-type]
    with store.connect() as connection:
        connection.execute("DROP TABLE orders")  # The way that the refusal names.
    place.drained(**lake)
    assert prints(store.last_commits()) == before, "built again from the archive"  # type: ignore[arg-type]
    with store.connect() as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchall() == [(12,)]
    said = [place.etl(*command, **lake) for command in (("verify",), ("status", "--json"), ("doctor",))]
    said.append(place.etl("prove", "daily_sales", "--day", str(DAYS[0]), **lake))
    for done in said:
        assert done.returncode == 0, done.stdout + done.stderr
    json.loads(said[1].stdout)
    assert "dbname=" in said[2].stdout and not (place.data / "warehouse.duckdb").exists()
    for text in (*(done.stdout + done.stderr for done in said), *map(str, built)):
        assert password not in text
    holding = [path for path in (*place.data.rglob("*"), *files.rglob("*")) if path.is_file()]
    assert holding and [path for path in holding if password.encode() in path.read_bytes()] == []


def test_a_password_that_is_wrong_is_one_line_of_every_command_and_stays_out_of_sight(tmp_path: Path) -> None:
    url = postgres.url_of(tmp_path, password="sec-ret-9")
    lake = {"ETL_WAREHOUSE": url, "ETL_WAREHOUSE_DATA": str(tmp_path / "files"), "ETL_WAIT_SECONDS": "1"}
    place = Place(tmp_path / "data")
    place.drop(f"{DAYS[0]}.csv", order_file(DAYS[0]))
    for command in (("drain",), ("status",), ("doctor",)):
        done = place.etl(*command, **lake)
        assert done.returncode != 0, done.stdout
        assert "password authentication failed" in done.stdout + done.stderr
        assert "sec-ret-9" not in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert [p for p in place.data.rglob("*") if p.is_file() and b"sec-ret-9" in p.read_bytes()] == []
    assert (place.incoming / f"{DAYS[0]}.csv").exists(), "nothing is lost"
    assert os.environ.get("ETL_WAREHOUSE") is None
