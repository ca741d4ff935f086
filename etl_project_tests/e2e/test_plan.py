"""`etl plan`: what it says of files, days, failures and folders, and that it changes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from etl_project_tests.deployments import Place, order_file

pytestmark = pytest.mark.long  # Each test starts the command several times.

DAYS = [date(2025, 3, 20), date(2025, 3, 21), date(2025, 3, 22)]


def plan(place: Place, *arguments: str, exit_code: int = 0) -> Any:
    done = place.etl("plan", *arguments, "--json")
    assert done.returncode == exit_code, done.stdout + done.stderr
    return json.loads(done.stdout)


def everything(place: Place) -> dict[str, str]:
    """The content of every file of the deployment but Dagster's own and caches."""
    files = (path for path in place.data.rglob("*") if path.is_file())
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if not {"dagster", "cache"} & set(path.relative_to(place.data).parts)
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two days are built; the first comes again as it was, the second corrected, a third for the first time."""
    place = Place(tmp_path_factory.mktemp("plan") / "data")
    for day in DAYS[:2]:
        place.drop(f"{day}.csv", order_file(day))
    place.drained()
    place.drop(f"{DAYS[0]}.csv", order_file(DAYS[0]))
    place.drop(f"{DAYS[1]}.csv", order_file(DAYS[1], price="9.99"))
    place.drop(f"{DAYS[2]}.csv", order_file(DAYS[2]))
    return place


def test_files_days_reasons_and_rows_are_told_and_nothing_is_touched(place: Place) -> None:
    before = everything(place)
    found = plan(place)
    assert everything(place) == before
    steps = {step["asset"]: step for step in found["now"]}
    assert {file["day"]: file["kind"] for file in steps["orders_files"]["files"]} == {
        str(DAYS[0]): "the same again",
        str(DAYS[1]): "new version",
        str(DAYS[2]): "new",
    }
    report = steps["daily_report"]
    assert (report["partitions"], report["why"]) == ([str(day) for day in DAYS], "follows")
    assert (report["inputs"], report["committed"], report["rows"]) == (["daily_sales", "orders"], 2, 2)
    assert [(run["first"], run["last"]) for run in found["runs"]] == [(str(DAYS[0]), str(DAYS[2]))]
    assert plan(place)["now"] == found["now"]


def test_a_dry_run_of_drain_is_the_plan(place: Place) -> None:
    printed = place.etl("plan", "--select", "daily_sales")
    assert "1 runs are pending: 12 partitions of 4 assets; nothing was run" in printed.stdout
    assert printed.stdout == place.etl("drain", "--dry-run", "--select", "daily_sales").stdout
    assert "1 the same again" in printed.stdout and "2 replaced, 12 rows now" in printed.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--select", "daily_sails"], "There is no asset daily_sails"),
        (["--code", "--select", "daily_sails"], "There is no asset daily_sails"),
        (["--code", "--through", "daily_sales"], "leave --through out"),
    ],
)
def test_what_cannot_be_planned_is_one_line(place: Place, arguments: list[str], said: str) -> None:
    done = place.etl("plan", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_with_nothing_there_nothing_is_due(tmp_path: Path) -> None:
    empty = Place(tmp_path / "data")
    assert "Nothing is due; nothing was run" in empty.etl("plan").stdout
    assert "was built by the code that it has now" in empty.etl("plan", "--code").stdout


def test_a_folder_that_is_gone_and_a_day_that_failed_for_good_need_a_person(tmp_path: Path) -> None:
    """The correction takes more than half of the day away, which the orders do not allow; then the folder goes."""
    place = Place(tmp_path / "data")
    place.drop(f"{DAYS[0]}.csv", order_file(DAYS[0]))
    place.drained()
    place.drop_released(f"{DAYS[0]}.csv", order_file(DAYS[0], invoices=1))
    place.drained(expected_exit=1)
    found = plan(place, exit_code=1)
    assert (found["runs"], found["now"]) == ([], [])
    assert found["failed_for_good"][0]["first"] == str(DAYS[0]) and "orders" in found["failed_for_good"][0]["assets"]
    shutil.rmtree(place.incoming)
    assert any("is not there any more" in line for line in plan(place, exit_code=1)["to_look_at"])


def test_more_days_than_allowed_are_refused_without_a_terminal_and_built_where_it_is_meant(tmp_path: Path) -> None:
    place, few = Place(tmp_path / "data"), {"ETL_CONFIRM_DAYS": "1", "ETL_KEEP_VERSIONS": "2"}
    for price in ("2.50", "3.50"):
        for day in DAYS[:2]:
            place.drop(f"{day}.csv", order_file(day, price=price))
        place.drained(**few)
    for command in (["rebuild", "orders"], ["rollback", "orders", "--day", str(DAYS[0]), "--until", str(DAYS[1])]):
        before = everything(place)
        refused = place.etl(*command, **few)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert "2 days" in refused.stderr and "ETL_CONFIRM_DAYS=1" in refused.stderr
        assert everything(place) == before
        done = place.etl(*command, "--yes", **few)
        assert done.returncode == 0, done.stdout + done.stderr
    assert place.query("select count(*) from orders where unit_price = 2.5") == [(6,)]
    shown = place.etl("rebuild", "orders", "--dry-run", **few).stdout
    assert "2 replaced, 12 rows now" in shown and "After it" in shown and "daily_report" in shown
