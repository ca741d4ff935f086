"""The checks of a source: what they found stays found, whatever is built next."""

from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from etl_project.storage import DuckDBStore
from etl_project_tests.projects import SourceProject, source_project

CONTRACT = "CREATE TABLE counts (batch_date DATE NOT NULL, units INTEGER NOT NULL, seen TIMESTAMPTZ NOT NULL);"
DEFS = {"name": "counts", "patterns": ["{date}.csv"], "columns": {"units": "units", "at": "seen"}}
KEY = dg.AssetCheckKey(dg.AssetKey("counts"), "rows_in_equal_rows_stored_and_rejected")
EVALUATION = dg.DagsterEventType.ASSET_CHECK_EVALUATION


def counts(*days: int) -> str:
    return "units,at\n" + "".join(f"{day},2025-03-{day:02} 12:00:00\n" for day in days)


def results(project: SourceProject) -> list[bool]:
    """What the check of each run said, newest first."""
    instance = project.deployment.instance
    events = [event for run in instance.get_runs() for event in instance.all_logs(run.run_id, EVALUATION)]
    found = [event.get_dagster_event().asset_check_evaluation_data for event in events]
    return [one.passed for one in found if one.asset_check_key == KEY]


def test_rows_that_vanished_stay_found_when_the_next_run_builds_another_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        project.drop("2025-03-03.csv", counts(3, 3))
        project.drain()
        with DuckDBStore(project.data / "warehouse.duckdb").connect() as connection:
            connection.execute("delete from counts where units = 3")
        project.drop("2025-03-04.csv", counts(4))
        assert not project.drain().failed
        assert results(project) == [False, True]
        assert project.checks(date(2025, 3, 3), date(2025, 3, 4), KEY.name) == {KEY.name: False}


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
        assert results(project) == [True] * 6
