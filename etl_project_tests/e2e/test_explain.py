"""`etl explain`: from rows of a report to the lines of files, and nothing is touched."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from etl_project_tests.deployments import Place, order_file
from etl_project_tests.e2e.test_plan import everything

pytestmark = pytest.mark.long  # Each test starts the command several times.

DAY = date(2025, 3, 20)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("explain") / "data")
    place.drop(f"orders-{DAY}.csv", order_file(DAY))
    place.drained()
    return place


def explained(place: Place, *arguments: str) -> Any:
    done = place.etl("explain", *arguments, "--day", str(DAY), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_row_of_a_report_is_followed_to_its_lines_and_commits(place: Place) -> None:
    pytest.importorskip("sqlglot")
    before = everything(place)
    sales = explained(place, "daily_sales", "--where", "stock_code = 'A1' and units > 0")
    [orders] = sales["made_of"]
    [raw] = orders["made_of"]
    assert (sales["rows"], sales["of_rows"]) == (1, 2)
    assert (orders["asset"], orders["rows"], orders["narrowed_by"]) == ("orders", 3, ["stock_code"])
    assert raw["files"] == [{"partition": str(DAY), "file": f"orders-{DAY}.csv", "lines": [[2, 2], [4, 4], [6, 6]]}]
    [commit] = raw["commits"]
    assert commit["code_version"] and commit["fingerprint"] and commit["sequence"] == 1
    assert everything(place) == before


def test_where_an_asset_is_no_sql_all_rows_of_its_inputs_are_shown_and_that_is_said(place: Place) -> None:
    customers = explained(place, "daily_customers", "--where", "customer_id = 14000")
    [orders] = customers["made_of"]
    assert (orders["rows"], orders["of_rows"], orders["not_narrowed"]) == (
        6,
        6,
        "it is not written as SQL, so its rows cannot be followed",
    )
    assert orders["made_of"][0]["files"][0]["lines"] == [[2, 7]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["daily_sails", "--day", str(DAY)], "no stored asset 'daily_sails'"),
        (["daily_sales"], "name one, like --day"),
        (["daily_sales", "--day", "20 March"], "no partition '20 March'"),
        (["daily_sales", "--day", "2025-03-01"], "was never committed"),
        (["daily_sales", "--day", str(DAY), "--where", "stock = 'A1'"], "cannot be asked: Binder Error"),
        (["daily_sales", "--day", str(DAY), "--where", "units >"], "cannot be asked: Parser Error"),
        (["daily_sales", "--day", str(DAY), "--where", "true); drop table x; select (1"], "more than one statement"),
        (["daily_sales", "--day", str(DAY), "--where", "1 in (from read_csv('/etc/passwd'))"], "cannot be asked"),
    ],
)
def test_what_cannot_be_explained_is_one_line(place: Place, arguments: list[str], said: str) -> None:
    done = place.etl("explain", *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stdout
    assert said in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_condition_that_no_row_meets_has_an_exit_code_and_changed_inputs_are_named(tmp_path: Path) -> None:
    place = Place(tmp_path / "data")
    place.drop(f"orders-{DAY}.csv", order_file(DAY))
    place.drained()
    assert explained(place, "daily_sales")["inputs_changed"] == []
    none = place.etl("explain", "daily_sales", "--day", str(DAY), "--where", "false")
    assert (none.returncode, "0 of 2 rows" in none.stdout) == (1, True)
    place.drop(f"orders-{DAY}.csv", order_file(DAY, price="9.99"))
    assert place.materialized("orders_files", DAY, DAY) == []
    for asset in ("raw_orders", "orders"):
        assert place.materialized(asset, DAY, DAY) == []
    assert explained(place, "daily_sales")["inputs_changed"] == [str(DAY)]
    assert "are others now" in place.etl("explain", "daily_sales", "--day", str(DAY)).stdout
