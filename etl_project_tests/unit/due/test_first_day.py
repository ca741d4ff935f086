"""The first day: where the data begins, whatever holds it, found without a wait and without a word to the warehouse."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from etl_project import settings
from etl_project.declare.daily_table import daily_partitions, days_from
from etl_project.due import first_day
from etl_project.due.graph import Node
from etl_project.due.pending import SourceState
from etl_project.due.readings import Periods
from etl_project.due.snapshot import Snapshot, first_day_of
from etl_project.sources.spec import SourceColumn, SourceSpec
from etl_project.storage.contract import Head

NOW = datetime(2025, 4, 1, 12, tzinfo=UTC)
FLOOR = date(2010, 12, 1)
HEAD = Head("i", "f", 1, 0)
HOLDER = """
import duckdb, sys, time
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(600)
"""


LOADED_BEFORE = """
import sys
from pathlib import Path
from etl_project import utc
from etl_project.definitions import load_project
from etl_project.due.snapshot import due, look
project, _ = load_project()
print(project.first_day, *(one.first for one in due(project, look(project, utc.now()))))
Path(sys.argv[1]).write_text("x")
print(*(one.first for one in due(project, look(project, utc.now()))))
"""


@pytest.fixture
def configured(tmp_path: Path) -> settings.Settings:
    return settings.load({"ETL_DATA_DIR": str(tmp_path / "data"), "ETL_SETTLE_SECONDS": "0"})


@pytest.fixture
def spec(configured: settings.Settings) -> SourceSpec:
    types = (SourceColumn("id", "VARCHAR"),)
    return SourceSpec(
        "orders", ("orders-{date}.csv",), start_date=configured.start_date, columns={"id": "id"}, types=types
    )


def test_a_waiting_file_whose_rows_say_their_day_may_hold_any(configured: settings.Settings, spec: SourceSpec) -> None:
    types = (SourceColumn("id", "VARCHAR"), SourceColumn("day", "DATE"))
    columns = {"id": "id", "day": "day"}
    undated = SourceSpec(
        "sales", ("*.csv",), start_date=configured.start_date, columns=columns, types=types, day_from="day"
    )
    for name in ("orders/orders-2025-03-01.csv", "sales/export.csv"):
        path = configured.incoming / name
        path.parent.mkdir(parents=True)
        path.write_text("x")
        os.utime(path, (1, 1))
    assert first_day.of(configured, [spec], NOW) == date(2025, 3, 1)
    assert first_day.of(configured, [spec, undated], NOW) == configured.start_date


def commit_in(warehouse: Path, *keys: str, asset: str = "a") -> None:
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS etl_commits (asset VARCHAR, partition_key VARCHAR)")
        connection.executemany("INSERT INTO etl_commits VALUES (?, ?)", [[asset, key] for key in keys])


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    os.utime(path, times=(NOW.timestamp(), NOW.timestamp()))  # Not settled yet.


def test_without_any_data_every_acceptable_day_exists(configured: settings.Settings, spec: SourceSpec) -> None:
    assert first_day.of(configured, [spec], NOW) == FLOOR
    assert not configured.warehouse.exists()


@pytest.mark.parametrize(
    "place",
    [
        "archive/orders/2025-03-03/orders-2025-03-03.csv/1-abc",
        "lake/raw_orders/batch_date=2025-03-03/data.parquet",
        "incoming/orders/orders-2025-03-03.csv",
        "quarantine/orders/2025-03-03/reason.json",
    ],
)
def test_the_days_begin_where_data_lies_and_an_earlier_day_makes_the_set_longer(
    configured: settings.Settings, spec: SourceSpec, place: str
) -> None:
    touch(configured.data_dir / place)
    assert first_day.of(configured, [spec], NOW) == date(2025, 3, 3)
    touch(configured.data_dir / place.replace("2025-03-03", "2024-12-31"))
    touch(configured.data_dir / place.replace("2025-03-03", "2025-03-20"))
    assert first_day.of(configured, [spec], NOW) == date(2024, 12, 31)


def test_commit_records_of_assets_without_files_count_and_keys_that_are_no_days_do_not(
    configured: settings.Settings, spec: SourceSpec
) -> None:
    commit_in(configured.warehouse, "", "eu", "2025-02-05", "2025-02-04", "2025-02-03-13:00")
    assert first_day.of(configured, [spec], NOW) == date(2025, 2, 4)
    commit_in(configured.warehouse, "2025-01-01")
    assert first_day.of(configured, [spec], NOW) == date(2025, 1, 1)


def test_what_is_committed_for_a_month_or_a_week_says_nothing_about_the_days(
    configured: settings.Settings, spec: SourceSpec
) -> None:
    """It stands under the day on which it begins, which may be long before the first day that holds anything."""
    commit_in(configured.warehouse, "2025-02-01", asset="by_month")
    commit_in(configured.warehouse, "2025-02-10")
    touch(configured.data_dir / "lake" / "by_week" / "batch_date=2025-02-02" / "data.parquet")
    assert first_day.of(configured, [spec], NOW) == date(2025, 2, 1)
    has_days = {"by_month": False, "by_week": False, "a": True}
    for _ in range(2):
        first_day.remember_without_days(configured, has_days)
        assert first_day.of(configured, [spec], NOW) == date(2025, 2, 10)
    first_day.remember_without_days(configured, {"a": True})
    assert first_day.of(configured, [spec], NOW) == date(2025, 2, 10), "nobody declares them any more"
    first_day.remember_without_days(configured, {"by_month": True, "a": True})
    assert first_day.of(configured, [spec], NOW) == date(2025, 2, 1)
    monthly = Periods(dg.MonthlyPartitionsDefinition("2025-01-01"))
    commits = {("by_month", date(2025, 2, 1)): HEAD, ("a", date(2025, 2, 10)): HEAD}
    nodes = [Node("by_month", keys=monthly), Node("a")]
    assert first_day_of(configured, Snapshot(NOW, {}, {}, commits), nodes) == date(2025, 2, 10)


def test_a_warehouse_that_a_run_holds_is_not_waited_for_and_its_last_answer_counts(
    configured: settings.Settings, spec: SourceSpec
) -> None:
    commit_in(configured.warehouse, "2025-02-04")
    first_day.of(configured, [spec], NOW)
    commit_in(configured.warehouse, "2025-02-05")  # Another state of the file, so it would have to be asked.
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(configured.warehouse)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert first_day.of(configured, [spec], NOW) == date(2025, 2, 4)
        (configured.cache / "first_day.json").write_text("torn")
        assert first_day.of(configured, [spec], NOW) == FLOOR
    finally:
        holder.kill()
        holder.wait()
    assert first_day.of(configured, [spec], NOW) == date(2025, 2, 4)


def test_an_unchanged_warehouse_is_not_opened_at_all(
    configured: settings.Settings, spec: SourceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_in(configured.warehouse, "2025-02-04")
    assert first_day.of(configured, [spec], NOW) == date(2025, 2, 4)
    monkeypatch.setattr(duckdb, "connect", lambda *_, **__: pytest.fail("opened"))
    assert first_day.of(configured, [spec], NOW) == date(2025, 2, 4)


def test_data_of_impossible_days_does_not_stretch_the_set(configured: settings.Settings, spec: SourceSpec) -> None:
    touch(configured.lake / "a" / "batch_date=1970-01-01" / "data.parquet")
    touch(configured.lake / "a" / "batch_date=2099-01-01" / "data.parquet")
    touch(configured.archive / "orders" / "2025-02-30" / "x")
    assert first_day.of(configured, [spec], NOW) == FLOOR
    touch(configured.archive / "orders" / "2025-03-01" / "x")
    assert first_day.of(configured, [spec], NOW) == date(2025, 3, 1)


def test_a_set_start_date_is_the_first_day_whatever_the_data(tmp_path: Path, spec: SourceSpec) -> None:
    configured = settings.load({"ETL_DATA_DIR": str(tmp_path / "data"), "ETL_START_DATE": "2024-06-01"})
    touch(configured.archive / "orders" / "2025-03-01" / "x")
    assert first_day.of(configured, [spec], NOW) == date(2024, 6, 1)


def test_a_look_finds_the_same_first_day_as_a_load(configured: settings.Settings) -> None:
    day = date(2025, 3, 3)
    sources = {"orders": SourceState(waiting={day: "w"}, accepted={day + timedelta(days=4): "a"})}
    head = Head("i", "f", 1, 0)
    assert first_day_of(configured, Snapshot(NOW, sources, {}, {})) == day
    earlier = Snapshot(NOW, sources, {}, {("a", day - timedelta(days=1)): head})
    assert first_day_of(configured, earlier) == day - timedelta(days=1)
    assert first_day_of(configured, Snapshot(NOW, {}, {}, {})) == FLOOR


def test_only_assets_that_are_declared_while_a_project_is_loaded_have_its_days() -> None:
    with days_from(date(2025, 3, 3)):
        assert daily_partitions().get_first_partition_key() == "2025-03-03"
    assert daily_partitions().get_first_partition_key() == settings.start_date().isoformat()


def test_an_earlier_file_is_due_in_a_process_that_was_loaded_before_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later, earlier = date(2025, 3, 3), date(2025, 2, 25)
    monkeypatch.delenv("ETL_START_DATE", raising=False)
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ETL_SETTLE_SECONDS", "0")
    touch(tmp_path / "incoming" / "orders" / f"orders-{later}.csv")
    comes = tmp_path / "incoming" / "orders" / f"orders-{earlier}.csv"
    script = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADED_BEFORE, str(comes)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert script.stdout.split() == [str(later), str(later), str(earlier)], script.stderr
