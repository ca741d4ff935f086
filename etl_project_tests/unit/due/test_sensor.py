"""Sensor and schedule as Dagster evaluates them, on the real definitions."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from etl_project import utc
from etl_project.definitions import build_defs, load_project
from etl_project.due.snapshot import look
from etl_project.storage import StoreBusy
from etl_project_tests import steady
from etl_project_tests.deployments import Place, order_file

HOLD = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
connection.execute("create table if not exists held (a int)")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ETL_SETTLE_SECONDS", "0")
    return Place(tmp_path)


@pytest.fixture
def yesterday() -> date:
    return steady.today() - timedelta(days=1)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def tick(instance: dg.DagsterInstance) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(instance=instance)
    found: dg.SensorResult | dg.SkipReason = build_defs().resolve_sensor_def("pending_days")(context)  # type: ignore[assignment]
    return found


def night(instance: dg.DagsterInstance) -> list[dg.RunRequest] | dg.SkipReason:
    at = datetime.combine(utc.now().date(), datetime.min.time(), UTC).replace(minute=30)
    context = dg.build_schedule_context(instance=instance, scheduled_execution_time=at)
    found: list[dg.RunRequest] | dg.SkipReason = build_defs().resolve_schedule_def("closed_day")(context)  # type: ignore[assignment]
    return found


def test_a_quiet_tick_says_that_nothing_is_pending(place: Place, instance: dg.DagsterInstance) -> None:
    assert "Nothing is pending" in str(tick(instance).skip_message)  # type: ignore[union-attr]


def test_a_tick_while_a_run_holds_the_warehouse_is_skipped_and_says_so(
    place: Place, instance: dg.DagsterInstance, yesterday: date
) -> None:
    place.drop(f"{yesterday}.csv", order_file(yesterday))
    warehouse = str(place.data / "warehouse.duckdb")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, warehouse], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    skipped = tick(instance)
    assert isinstance(skipped, dg.SkipReason)
    assert "holds the warehouse" in str(skipped.skip_message) and str(holder.pid) in str(skipped.skip_message)
    holder.communicate()
    asked = tick(instance)
    assert isinstance(asked, dg.SensorResult) and len(asked.run_requests or ()) == 1


def test_files_without_a_usable_date_are_asked_for_in_a_run_of_their_own(
    place: Place, instance: dg.DagsterInstance, yesterday: date
) -> None:
    place.drop("undated.csv", order_file(yesterday))
    asked = tick(instance)
    assert isinstance(asked, dg.SensorResult)
    assert [request.job_name for request in asked.run_requests or ()] == ["refuse_undated_files"]


def test_the_schedule_asks_for_the_closed_day_whose_file_waits(
    place: Place, instance: dg.DagsterInstance, yesterday: date
) -> None:
    place.drop(f"{yesterday}.csv", order_file(yesterday))
    [request] = night(instance)  # type: ignore[misc]
    assert request.tags["dagster/partition"] == str(yesterday)


def test_the_schedule_closes_an_empty_day_once_the_source_has_begun(
    place: Place, instance: dg.DagsterInstance, yesterday: date
) -> None:
    assert isinstance(night(instance), dg.SkipReason), "a source that never sent a file has no empty days"
    before = yesterday - timedelta(days=3)
    place.drop(f"{before}.csv", order_file(before))
    [request] = night(instance)  # type: ignore[misc]
    assert request.tags["dagster/partition"] == str(yesterday)


def test_the_schedule_skips_a_missing_day_where_empty_days_are_not_allowed(
    place: Place, instance: dg.DagsterInstance, yesterday: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    from etl_project.sources.component import FileSource  # noqa: PLC0415

    original = FileSource.spec

    def strict(self: FileSource, folder: Path) -> object:
        return original(self.model_copy(update={"empty_days": "missing"}), folder)

    monkeypatch.setattr(FileSource, "spec", strict)
    before = yesterday - timedelta(days=3)
    place.drop(f"{before}.csv", order_file(before))
    skipped = night(instance)
    assert isinstance(skipped, dg.SkipReason)
    assert f"{yesterday} is missing" in str(skipped.skip_message) and "not written as empty" in str(
        skipped.skip_message
    )


def test_a_look_that_may_wait_waits_for_the_run_that_holds_the_warehouse(place: Place) -> None:
    project, _ = load_project()
    warehouse = str(place.data / "warehouse.duckdb")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, warehouse], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(StoreBusy):
        look(project, utc.now(), wait=False)
    with pytest.raises(StoreBusy):
        look(project, utc.now(), longest_wait_seconds=0.1)
    leaving = threading.Timer(0.5, holder.communicate)
    leaving.start()
    assert look(project, utc.now()).commits == {}
    leaving.join()
