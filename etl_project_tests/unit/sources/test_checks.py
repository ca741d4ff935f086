"""The checks of a source: what they found stays found, whatever is built next."""

import shutil
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from etl_project.due import check_verdicts, red_checks
from etl_project.sources import discarded, quarantine
from etl_project.storage import DuckDBStore
from etl_project_tests.projects import SourceProject, source_project

CONTRACT = "CREATE TABLE counts (batch_date DATE NOT NULL, units INTEGER NOT NULL, seen TIMESTAMPTZ NOT NULL);"
DEFS = {"name": "counts", "patterns": ["{date}.csv", "bad-{date}.csv"], "columns": {"units": "units", "at": "seen"}}
KEY = dg.AssetCheckKey(dg.AssetKey("counts"), "rows_in_equal_rows_stored_and_rejected")
GREEN = AssetCheckExecutionRecordStatus.SUCCEEDED


def counts(*days: int) -> str:
    return "units,at\n" + "".join(f"{day},2025-03-{day:02} 12:00:00\n" for day in days)


def results(project: SourceProject, name: str = KEY.name, asset: str = "counts") -> dict[str, bool]:
    """The days of a check as the UI shows them: green or red, of the rows that are there now."""
    storage = project.deployment.instance.event_log_storage
    infos = storage.get_asset_check_partition_info([dg.AssetCheckKey(dg.AssetKey(asset), name)])
    assert all(info.is_current for info in infos if info.partition_key is not None), infos
    return {str(one.partition_key): one.latest_execution_status is GREEN for one in infos if one.partition_key}


def red_days(project: SourceProject) -> set[tuple[str, str | None]]:
    """What `etl status` names."""
    keys = project.definitions.resolve_asset_graph().asset_check_keys
    return {(check.name, check.partition) for check in red_checks(project.deployment.instance, keys)}


def test_rows_that_vanished_are_red_on_their_day_and_stay_so_when_the_next_run_builds_another_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        project.drop("2025-03-03.csv", counts(3, 3))
        project.drain()
        assert results(project) == {"2025-03-03": True}
        with DuckDBStore(project.data / "warehouse.duckdb").connect() as connection:
            connection.execute("delete from counts where units = 3")
        project.drop("2025-03-04.csv", counts(4))
        assert not project.drain().failed
        assert results(project) == {"2025-03-03": False, "2025-03-04": True}
        assert red_days(project) == {(KEY.name, "2025-03-03")}
        assert project.checks(date(2025, 3, 3), date(2025, 3, 4), KEY.name) == {KEY.name: False}
        assert results(project) == {"2025-03-03": False, "2025-03-04": True}


def test_of_a_range_the_day_of_a_refused_file_is_red_alone_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "no_refused_files"
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        for day in (3, 4, 5):
            project.drop(f"2025-03-{day:02}.csv", counts(day))
        project.drop("bad-2025-03-04.csv", "other,columns\n1,2\n")
        patterns = project.drain()
        assert patterns.red.keys() == {("counts_files", name, "2025-03-04")}
        shown = {"2025-03-03": True, "2025-03-04": False, "2025-03-05": True}
        assert results(project, name, "counts_files") == shown
        assert red_days(project) == {(name, "2025-03-04")}
        project.drop("2025-03-06.csv", counts(6))
        assert project.drain().all_well, "this run has not made it worse"
        assert red_days(project) == {(name, "2025-03-04")}
        shutil.rmtree(project.data / "quarantine" / "counts" / "2025-03-04")
        project.drop("2025-03-07.csv", counts(7))
        assert project.drain().all_well
        assert red_days(project) == set(), "somebody put the refused file aside: the next run of any day sees it"
        assert results(project, name, "counts_files") == {f"2025-03-0{day}": True for day in (3, 4, 5, 6, 7)}
        project.drop("bad-2025-03-05.csv", "other,columns\n3,4\n")
        assert not project.drain().all_well and red_days(project) == {(name, "2025-03-05")}
        [spec], configured = project.deployment.project.sources, project.deployment.project.settings
        [refused] = quarantine.listing(configured.quarantine)
        quarantine.discard(configured.quarantine, refused)
        for _ in range(2):
            discarded.tell(project.deployment.instance, spec, configured, [refused.reason.day])
            assert red_days(project) == set(), "somebody discarded it: no run is needed to see that"


def test_a_day_that_failed_long_ago_is_still_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More results came since than one page of them holds."""
    monkeypatch.setattr(check_verdicts, "_PAGE", 2)
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        project.drop("2025-03-03.csv", counts(3, 3))
        project.drain()
        with DuckDBStore(project.data / "warehouse.duckdb").connect() as connection:
            connection.execute("delete from counts")
        for day in (4, 5, 6, 7):
            project.drop(f"2025-03-{day:02}.csv", counts(day))
            project.drain()
        assert red_days(project) == {(KEY.name, "2025-03-03")}


def test_late_rows_whose_day_is_still_to_be_built_are_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = {**DEFS, "event_column": "seen", "lateness_days": 1}
    with source_project(tmp_path, late, CONTRACT, monkeypatch) as project:
        for day in (3, 4, 5):
            project.drop(f"2025-03-{day:02}.csv", counts(day, day - 1))
            assert project.drain().runs == 2
        assert dict(project.query("select day(batch_date), count(*) from counts group by 1")) == {
            2: 1,
            3: 2,
            4: 2,
            5: 1,
        }
        assert results(project) == {f"2025-03-0{day}": True for day in (2, 3, 4, 5)}
