"""`etl verify` on a real deployment: every kind of damage is named, and put right the way its advice says."""

from __future__ import annotations

import json
import shutil
import sqlite3
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from etl_project_tests.deployments import Place, order_file

pytestmark = pytest.mark.long  # Each test starts the command several times.

FIRST = date(2025, 3, 3)
DAYS = [FIRST + timedelta(days=n) for n in range(4)]
LAST = DAYS[-1]

LOOKS = """
import json, sys, duckdb, dagster as dg
from datetime import date
from etl_project import instance, settings, utc
from etl_project.due import execution
from etl_project.definitions import build_defs
weekly = build_defs().resolve_job_def("verify_weekly")
by_hand = build_defs().get_repository_def().get_implicit_global_asset_job_def()

def look(opened, asset=None, day=None):
    tags = utc.run_tags(date.fromisoformat(day), date.fromisoformat(day)) if day else {}
    options = {"asset_selection": [dg.AssetKey(asset)]} if asset else {}
    job = by_hand if asset else weekly
    done = job.execute_in_process(instance=opened, run_config=execution.QUIET, tags=tags, **options)
    evaluations = [e for e in done.get_asset_check_evaluations() if e.check_name == "matches_its_commits"]
    return {e.asset_key.to_user_string(): e.passed for e in evaluations}

first, second = sys.argv[1:]
with instance.opened() as opened:
    looks = [look(opened)]
    with duckdb.connect(str(settings.load().warehouse), config={"custom_user_agent": "dagster"}) as connection:
        connection.execute(f"update daily_sales set units = units + 1 where batch_date = '{first}'")
    looks += [look(opened), look(opened, "daily_sales", second), look(opened, "daily_sales", first)]
    looks += [look(opened), look(opened, "daily_sales", first)]
print(json.dumps(looks))
"""

REQUESTS = """
import json, dagster as dg
from etl_project import instance
from etl_project.definitions import build_defs
definitions = build_defs()
with instance.opened() as opened:
    repository = definitions.get_repository_def()
    context = dg.build_sensor_context(opened, repository_def=repository)
    requests = repository.get_sensor_def("pending_days").evaluate_tick(context).run_requests
print(json.dumps([sorted(key.name for key in request.asset_check_keys) for request in requests]))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Place(tmp_path_factory.mktemp("built") / "data")
    for day in DAYS:
        place.drop(f"{day}.csv", order_file(day))
    place.drained()
    return place.data


@pytest.fixture
def place(built: Path, tmp_path: Path) -> Place:
    """A deployment of four days, everything committed, of the test's own."""
    return Place(Path(shutil.copytree(built, tmp_path / "data")))


def verified(place: Place, *options: str) -> list[tuple[str, str, str | None]]:
    """What `etl verify` finds; its exit code has to agree."""
    done = place.etl("verify", "--json", *options)
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == (1 if findings else 0), done.stderr
    return sorted((found["kind"], found["asset"], found["partition"]) for found in findings)


def edit(place: Place, sql: str) -> None:
    with duckdb.connect(str(place.data / "warehouse.duckdb")) as connection:
        connection.execute(sql)


def forget_event(place: Place, asset: str, day: date) -> None:
    index = place.data / "dagster" / "storage" / "history" / "runs" / "index.db"
    with sqlite3.connect(index) as db:
        gone = db.execute(
            "delete from event_logs where asset_key = ? and partition = ? and dagster_event_type = ?",
            [json.dumps([asset]), str(day), "ASSET_MATERIALIZATION"],
        )
        assert gone.rowcount == 1


def raw_file(place: Place, day: date) -> Path:
    return place.data / "lake" / "raw_orders" / f"batch_date={day}" / "data.parquet"


def flip_a_byte(file: Path) -> None:
    """In the values of the first column: a file has bytes that mean nothing, too."""
    column = pq.read_metadata(file).row_group(0).column(0)
    content = bytearray(file.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 0x10
    file.write_bytes(content)


def test_every_kind_of_damage_is_named_and_put_right_as_its_advice_says(place: Place) -> None:
    clean = place.tables()
    edit(place, f"update orders set quantity = quantity + 1 where batch_date = '{DAYS[0]}' and line_no = 1")
    edit(place, f"delete from etl_commits where asset = 'daily_sales' and partition_key = '{DAYS[1]}'")
    forget_event(place, "daily_customers", DAYS[1])
    flipped, gone = raw_file(place, DAYS[2]), raw_file(place, DAYS[3])
    flip_a_byte(flipped)
    gone.unlink()
    [archived] = (place.data / "archive" / "orders" / str(DAYS[0])).rglob("000001-*")
    archived.write_text(archived.read_text().replace("MUG", "JUG"))
    damage = [
        ("corrupt", "raw_orders", str(DAYS[2])),
        ("edited", "orders", str(DAYS[0])),
        ("missing", "raw_orders", str(DAYS[3])),
        ("uncommitted", "daily_sales", str(DAYS[1])),
        ("unknown to Dagster", "daily_customers", str(DAYS[1])),
    ]
    assert verified(place, "--deep") == sorted([*damage, ("corrupt archive", "orders", str(DAYS[0]))])
    assert verified(place, "--asset", "orders", "--from", str(DAYS[1])) == []
    printed = place.etl("verify", "--deep").stdout
    assert f"corrupt raw_orders {DAYS[2]}\n    {flipped}: " in printed and printed.endswith("rows: 6 findings\n")
    assert verified(place, "--repair") == damage, "only what Dagster forgot is repaired, and it is said"
    assert verified(place) == [found for found in damage if found[0] != "unknown to Dagster"]
    archived.write_text(archived.read_text().replace("JUG", "MUG"))
    flipped.unlink()
    assert place.materialized("raw_orders", DAYS[2], DAYS[2]) == []
    assert place.materialized("orders", DAYS[0], DAYS[0]) == []
    place.drained()
    assert verified(place, "--deep") == []
    assert place.tables() == clean


def test_repairing_twice_leaves_nothing_to_repair(place: Place) -> None:
    forget_event(place, "orders", DAYS[1])
    expected = [("unknown to Dagster", "orders", str(DAYS[1]))]
    assert verified(place, "--repair") == expected
    assert verified(place, "--repair") == []


def test_a_run_killed_between_commit_and_event_is_found_and_repaired(place: Place) -> None:
    place.drop(f"{LAST}.csv", order_file(LAST, price="3.10"))
    assert place.etl("drain", ETL_FAULT="duckdb.after_commit:2=kill").returncode == -9
    found = verified(place)
    assert ("unknown to Dagster", "orders", str(LAST)) in found
    assert {kind for kind, _, _ in found} == {"unknown to Dagster"}
    place.drained()
    assert ("unknown to Dagster", "orders", str(LAST)) in verified(place), "a commit in line with its input is not due"
    verified(place, "--repair")
    assert verified(place) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--asset", "no_such"), "There is no stored asset 'no_such'; there are daily_customers"),
        (("--from", "2025-03-05", "--to", "2025-03-04"), "--from 2025-03-05 is after --to 2025-03-04"),
        (("--from", "yesterday"), "yesterday"),
    ],
)
def test_what_cannot_be_looked_at_is_said_in_one_line(place: Place, options: tuple[str, ...], says: str) -> None:
    done = place.etl("verify", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_the_weekly_job_tells_every_asset_and_runs_over_days_leave_its_red_alone(place: Place) -> None:
    assets = {"raw_orders", "orders", "orders_rejects", "daily_sales", "daily_customers", "daily_report"}
    before, edited, another_day, rebuilt, everything, again = place.python(LOOKS, str(DAYS[0]), str(DAYS[1]))
    assert assets <= before.keys() and all(before.values())
    assert edited == {**before, "daily_sales": False}
    assert another_day == {"daily_sales": False}, "that day is right, not all"
    assert rebuilt == {"daily_sales": False}, "nobody has looked at all days yet"
    assert everything == before
    assert again == {"daily_sales": True}


def test_the_runs_that_are_asked_for_by_themselves_do_not_verify(place: Place) -> None:
    place.drop(f"{LAST + timedelta(days=1)}.csv", order_file(LAST + timedelta(days=1)))
    [checks] = place.python(REQUESTS)
    assert "rows_in_equal_rows_stored_and_rejected" in checks and "matches_its_commits" not in checks
    place.drained()
    index = place.data / "dagster" / "storage" / "history" / "runs" / "index.db"
    with sqlite3.connect(index) as db:
        assert (
            db.execute("select 1 from asset_check_executions where check_name = 'matches_its_commits'").fetchall() == []
        )
