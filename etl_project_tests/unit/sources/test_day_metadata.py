"""What the events of a source's assets say of each day: its files, its rejects, and where the files are."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_project.sources import assets
from etl_project.sources.intake import admit
from etl_project_tests.projects import SourceProject, source_project

DAY = date(2025, 3, 3)
NEXT = DAY + timedelta(days=1)
CONTRACT = "CREATE TABLE visits (batch_date DATE NOT NULL, page VARCHAR NOT NULL, seen TIMESTAMPTZ NOT NULL)"
DEFS = {
    "name": "visits",
    "patterns": ["visits_{date}*.csv"],
    "columns": {"page": "page", "at": "seen"},
    "max_rejected_ratio": 0.5,
}


def metadata_of(project: SourceProject, asset: str) -> dict[str, dict[str, Any]]:
    """The metadata of the newest event of each day."""
    records = project.deployment.instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    events = [record.asset_materialization for record in reversed(records)]
    return {
        str(event.partition): {name: value.value for name, value in event.metadata.items()}
        for event in events
        if event is not None
    }


def lines(day: date, *pages: str) -> str:
    return "page,at\n" + "".join(f"{page},{day}T08:00:00Z\n" for page in pages)


@pytest.mark.parametrize("days", [[DAY], [DAY, NEXT]], ids=["single day", "range"])
def test_raw_rows_say_how_many_files_and_rejects_a_day_has_and_where_its_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: list[date]
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        for day in days:
            project.drop(f"visits_{day}.csv", lines(day, "/", "/shop"))
        project.drop(f"visits_{DAY}-2.csv", lines(DAY, "/", "/shop", "/help") + "/broken,never\n")
        project.drain()
        raw, typed, files = (metadata_of(project, asset) for asset in ("raw_visits", "visits", "visits_files"))
        numbers = {
            day: (raw[day]["files"], raw[day]["rejects"], raw[day]["dagster/partition_row_count"]) for day in raw
        }
        assert numbers == {str(day): (2, 1, 5) if day == DAY else (1, 0, 2) for day in days}
        for day in days:
            folder = project.data / "archive" / "visits" / str(day)
            assert {found[str(day)]["archive"] for found in (raw, typed, files)} == {str(folder)}
            assert any(folder.iterdir())


def test_a_day_with_late_rows_links_the_folders_of_all_files_that_may_hold_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = {**DEFS, "event_column": "seen", "lateness_days": 1}
    with source_project(tmp_path, late, CONTRACT, monkeypatch) as project:
        project.drop(f"visits_{DAY}.csv", lines(DAY, "/"))
        project.drop(f"visits_{NEXT}.csv", lines(NEXT, "/") + lines(DAY, "/late").partition("\n")[2])
        project.drain()
        root = project.data / "archive" / "visits"
        typed = metadata_of(project, "visits")
        assert typed[str(DAY)]["archive"] == f"* `{root / str(DAY)}`\n* `{root / str(NEXT)}`"
        assert typed[str(DAY)]["dagster/partition_row_count"] == 2
        assert typed[str(NEXT)]["archive"] == f"* `{root / str(NEXT)}`"


def test_the_log_of_a_run_names_the_first_of_very_many_files_and_counts_the_others() -> None:
    received = [admit.Received(f"{at}.csv", DAY, "refused" if at % 2 else "accepted") for at in range(1_100)]
    told = list(assets.told(received))
    assert (told[0], len(told)) == (f"0.csv ({DAY}): accepted", assets.MOST_TOLD + 1)
    assert told[-1] == "and 1000 more files: 500 accepted, 500 refused"
    assert list(assets.told(received[:1])) == told[:1]
