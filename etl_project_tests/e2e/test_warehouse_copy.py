"""`etl warehouse copy` between what a deployment has built and the warehouse that it goes on with."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from etl_project_tests import postgres
from etl_project_tests.deployments import Place, order_file

DAY, NEXT = date(2025, 3, 3), date(2025, 3, 4)


def moved_to(place: Place, server: dict[str, str], *told: str) -> None:
    """Copy beside the deployment, once more what came since, and go on there: nothing is due, all is as it was."""
    place.drop(f"{DAY}.csv", order_file(DAY))
    place.drained()
    command = ("warehouse", "copy", f"duckdb:///{place.data / 'warehouse.duckdb'}", *told)
    first = place.etl(*command, **server)
    assert first.returncode == 0 and "copied orders: " in first.stdout, first.stdout + first.stderr
    place.drop(f"{DAY}.csv", order_file(DAY, price="9.75"))
    place.drop(f"{NEXT}.csv", order_file(NEXT))
    place.drained()
    for expected in (" 0 refused", "0 tables copied"):
        done = place.etl(*command, **server)
        assert done.returncode == 0 and expected in done.stdout, done.stdout + done.stderr
    (place.data / "warehouse.duckdb").rename(place.data.with_name("away"))
    assert place.drained(**server).startswith("0 runs, 0 failed")
    verified = place.etl("verify", **server)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.long
def test_a_deployment_goes_on_in_another_file(tmp_path: Path) -> None:
    other = f"duckdb:///{tmp_path / 'other.duckdb'}"
    moved_to(Place(tmp_path / "data"), {"ETL_WAREHOUSE": other}, "ETL_WAREHOUSE")


@pytest.mark.long
@postgres.needed
def test_a_deployment_goes_on_in_postgresql(tmp_path: Path) -> None:
    server = {"ETL_WAREHOUSE": postgres.plain_url_of(tmp_path)}
    moved_to(Place(tmp_path / "data"), server, "ETL_WAREHOUSE")


@pytest.mark.stress
@postgres.needed
def test_a_deployment_goes_on_in_a_lake(tmp_path: Path) -> None:
    server = {"ETL_WAREHOUSE": postgres.url_of(tmp_path), "ETL_WAREHOUSE_DATA": str(tmp_path / "files")}
    moved_to(Place(tmp_path / "data"), server, "ETL_WAREHOUSE")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("duckdb:///a.duckdb", "postgresql://u:geheim@h/w"), "A password in an argument"),
        (("duckdb:///a.duckdb", "ducklake:postgres:dbname=w password=geheim"), "A password in an argument"),
        (("duckdb:///a.duckdb", "NEW_WAREHOUSE"), "The variable NEW_WAREHOUSE is not set"),
        (("duckdb:///a.duckdb", "ducklake:postgres:dbname=w"), "--to-data is not given"),
        (("duckdb:///a.duckdb", "duckdb:///b.duckdb", "--to-data", "x"), "--to-data is for a DuckLake"),
        (("a.duckdb", "duckdb:///b.duckdb"), "write duckdb:///PATH"),
        (("duckdb:///a.duckdb", "duckdb:///b.duckdb"), "there is no warehouse"),
        (("duckdb:///a.duckdb", "duckdb:///a.duckdb"), "Name two warehouses"),
    ],
)
def test_what_cannot_be_copied_is_one_line(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = Place(tmp_path / "data").etl("warehouse", "copy", *arguments)
    assert done.returncode == 2 and said in done.stderr, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "geheim" not in done.stdout + done.stderr
    assert not Path("a.duckdb").exists() and not Path("b.duckdb").exists()
