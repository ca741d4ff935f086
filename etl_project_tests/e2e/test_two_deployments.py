"""Two deployments on one warehouse of a server: the second one is refused until it takes the tables over."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from etl_project_tests import postgres
from etl_project_tests.deployments import Place, order_file

pytestmark = [postgres.needed, pytest.mark.servers, pytest.mark.timeout(900)]

DAY, NEXT = date(2025, 3, 3), date(2025, 3, 4)


def drain(one: Place, settings: dict[str, str]) -> tuple[int, str]:
    """The exit code, and what was said, without the white space that depends on the width of the page."""
    done = one.etl("drain", **settings)
    return done.returncode, "".join((done.stdout + done.stderr).split())


def committed(folder: Path) -> list[tuple[object, ...]]:
    """Every commit record, with its number and time: nothing was written if they are the same."""
    with postgres.admin(postgres.database_of(folder)) as db:
        return db.execute("SELECT * FROM public.etl_commits ORDER BY asset, partition_key, sequence").fetchall()


def test_a_second_deployment_is_refused_the_tables_of_the_first_until_it_takes_them_over(tmp_path: Path) -> None:
    warehouse = {"ETL_WAREHOUSE": postgres.plain_url_of(tmp_path)}
    first, second = Place(tmp_path / "first"), Place(tmp_path / "second")
    first.drop(f"{DAY}.csv", order_file(DAY))
    code, said = drain(first, warehouse)
    assert code == 0, said
    before = committed(tmp_path)
    second.drop(f"{NEXT}.csv", order_file(NEXT))
    code, said = drain(second, warehouse)
    assert code == 1 and committed(tmp_path) == before, said
    for told in (f"writtenbythedeploymentin{first.data}on", str(second.data), "retryingdoesnothelp", "take-over"):
        assert told in said
    seen = second.etl("doctor", **warehouse)
    assert f"orders of the deployment in {first.data}" in seen.stdout, seen.stdout
    taken = second.etl("warehouse", "take-over", **warehouse)
    assert taken.returncode == 0 and f"orders: was written by the deployment in {first.data}" in taken.stdout
    assert "0 tables taken over" in second.etl("warehouse", "take-over", **warehouse).stdout
    first.drop(f"{NEXT}.csv", order_file(NEXT))
    code, said = drain(first, warehouse)
    assert code == 1 and f"writtenbythedeploymentin{second.data}on" in said, said
    assert committed(tmp_path) == before
