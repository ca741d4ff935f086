"""`etl status`: the calendar of every asset, and the commits of one."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl_project_tests.deployments import Place, order_file

pytestmark = pytest.mark.long  # Each test starts the command several times.

FIRST = date(2025, 3, 3)
DAYS = [FIRST + timedelta(days=n) for n in range(6)]
CORRECTED, SHRUNK, REFUSED, CHANGED = DAYS[1], DAYS[2], DAYS[4], DAYS[5]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Six days: one corrected, one whose correction takes too much away, one refused at first, one file that waits."""
    place = Place(tmp_path_factory.mktemp("status") / "data")
    for day in DAYS:
        place.drop(f"{day}.csv", order_file(day) if day != REFUSED else "not,the,header\n")
    place.drained(expected_exit=1)
    place.drop(f"{CORRECTED}.csv", order_file(CORRECTED, price="9.99"))
    place.drop_released(f"{SHRUNK}.csv", order_file(SHRUNK, invoices=1))
    place.drained(expected_exit=1)
    place.drop(f"{CHANGED}.csv", order_file(CHANGED, price="1.11"))
    return place


def read(place: Place, *arguments: str) -> Any:
    done = place.etl("status", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_day_of_every_asset_has_its_state(place: Place) -> None:
    [orders] = [asset for asset in read(place)["assets"] if asset["asset"] == "orders"]
    assert orders["calendar"] == {
        str(DAYS[0]): "committed",
        str(CORRECTED): "committed",
        str(SHRUNK): "failed",
        str(DAYS[3]): "committed",
        str(REFUSED): "missing",
        str(CHANGED): "stale",
    }
    assert (orders["committed"], orders["failed"], orders["stale"], orders["missing"]) == (5, 1, 1, 1)


def test_the_screen_reads_without_colour_and_ends_with_the_last_runs(place: Place) -> None:
    printed = place.etl("status").stdout
    lines = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert "■■✗■·≈" in printed and "Mar 2025" in printed
    assert "■ committed   ≈ stale   ✗ failed   · missing" in printed
    assert "1 files waiting, 1 in quarantine" in lines["orders:"]
    assert "failure" in printed and "success" in printed
    assert "\x1b[" not in printed, "no colours in a pipe"


def test_runs_are_told_newest_first_with_their_days_and_outcome(place: Place) -> None:
    runs = read(place)["runs"]
    assert len(runs) <= 5 and [run["started_at"] for run in runs] == sorted(
        (r["started_at"] for r in runs), reverse=True
    )
    assert {(run["first"], run["outcome"]) for run in runs} >= {(str(SHRUNK), "failure")}


def test_all_commits_of_a_day_are_told_newest_first(place: Place) -> None:
    newest, first = read(place, "orders", "--day", str(CORRECTED))
    assert (first["rows_before"], first["rows"], first["rows_added"], first["changed"]) == (0, 6, 6, True)
    assert (newest["rows_before"], newest["rows"], newest["changed"]) == (6, 6, True)
    assert (newest["rows_added"], newest["rows_removed"], newest["rows_kept"]) == (3, 3, 3)
    assert newest["input_hash"] != first["input_hash"] and newest["run_id"] != first["run_id"]
    printed = place.etl("status", "orders", "--day", str(CORRECTED)).stdout
    assert "6 → 6" in printed and "3 added, 3 removed, 3 kept" in printed and newest["run_id"][:8] in printed


@pytest.mark.parametrize("asset", ["orders", "raw_orders"])
def test_without_a_day_the_newest_commits_of_all_days_are_told(place: Place, asset: str) -> None:
    commits = read(place, asset)
    times = [commit["committed_at"] for commit in commits]
    assert times == sorted(times, reverse=True) and commits[0]["partition"] in (str(CORRECTED), str(SHRUNK))
    assert {commit["partition"] for commit in commits} == {str(day) for day in DAYS if day != REFUSED}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("no_such",), "There is no stored asset 'no_such'"),
        (("orders", "--day", str(REFUSED)), f"orders was never committed for {REFUSED}"),
        (("--day", str(FIRST)), "--day needs an ASSET"),
    ],
)
def test_what_there_is_nothing_to_show_of_is_said_in_one_line(
    place: Place, arguments: tuple[str, ...], says: str
) -> None:
    done = place.etl("status", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_looking_twice_tells_the_same_and_writes_nothing(place: Place) -> None:
    def files() -> dict[str, tuple[int, int]]:
        kept = (
            p
            for p in Path(place.data).rglob("*")
            if p.is_file() and "dagster" not in p.parts and "cache" not in p.parts
        )
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in kept}

    before = files()
    first, second = read(place), read(place)
    assert {**first, "at": None} == {**second, "at": None}
    assert files() == before
