"""Late rows, end to end: rows belong to the day of their event, whichever file brings them within the allowance."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from etl_project import utc
from etl_project_tests.projects import SourceProject, source_project

pytestmark = pytest.mark.long  # Each test starts the command several times.

CONTRACT = """
CREATE TABLE clicks (
    batch_date DATE NOT NULL,
    id         INTEGER NOT NULL,
    clicked_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (batch_date, id)
);
"""
DEFS = {
    "name": "clicks",
    "patterns": ["{date}.csv"],
    "columns": {"id": "id", "at": "clicked_at"},
    "event_column": "clicked_at",
    "lateness_days": 2,
    "max_rejected_ratio": 0.5,
    "max_removed_ratio": 1,  # Days of one row: a correction may take all of them back.
}
EQUAL = "rows_in_equal_rows_stored_and_rejected"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceProject]:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch, ETL_START_DATE="2025-03-01") as made:
        yield made


def clicks(*rows: tuple[int, str]) -> str:
    return "id,at\n" + "".join(f"{number},2025-{day} 12:00:00\n" for number, day in rows)


def stored(project: SourceProject) -> list[tuple[str, int]]:
    return project.query("select strftime(batch_date, '%m-%d'), id from clicks order by all")


def commits(project: SourceProject, asset: str = "clicks") -> dict[str, int]:
    return dict(project.query(f"select partition_key, count(*) from etl_commits where asset = '{asset}' group by 1"))


def test_late_rows_land_on_the_day_of_their_event_and_rows_beyond_the_allowance_among_the_rejects(
    project: SourceProject,
) -> None:
    project.drop("2025-03-10.csv", clicks((1, "03-10"), (2, "03-09"), (3, "03-08"), (4, "03-07"), (5, "03-11")))
    assert project.drain().runs == 2
    assert stored(project) == [("03-08", 3), ("03-09", 2), ("03-10", 1)]
    rejects = project.query("select batch_date, source_line, reason from clicks_rejects order by all")
    assert [(day, line) for day, line, _ in rejects] == [(date(2025, 3, 10), 5), (date(2025, 3, 10), 6)]
    assert "2025-03-07 lies before 2025-03-08" in rejects[0][2]
    assert "2025-03-11 lies after the day of the file" in rejects[1][2]
    assert project.checks(date(2025, 3, 8), date(2025, 3, 10), EQUAL) == {EQUAL: True}
    assert project.drain().runs == 0, "and nothing is due any more"


def test_a_later_file_rebuilds_exactly_the_days_that_it_can_hold(project: SourceProject) -> None:
    project.drop("2025-03-10.csv", clicks((1, "03-10")))
    project.drain()
    before = commits(project)
    project.drop("2025-03-11.csv", clicks((11, "03-11"), (12, "03-09")))
    project.drain()
    assert stored(project) == [("03-09", 12), ("03-10", 1), ("03-11", 11)]
    after = commits(project)
    assert {day for day in after if after[day] != before.get(day)} == {"2025-03-09", "2025-03-10", "2025-03-11"}
    assert project.drain().runs == 0


def test_a_corrected_file_takes_its_late_rows_back(project: SourceProject) -> None:
    project.drop("2025-03-10.csv", clicks((1, "03-10"), (2, "03-09")))
    project.drain()
    project.drop("2025-03-10.csv", clicks((1, "03-10"), (3, "03-08")))
    project.drain()
    assert stored(project) == [("03-08", 3), ("03-10", 1)]
    project.drop("2025-03-10.csv", clicks((1, "03-10"), (2, "03-09")))
    project.drain()
    assert stored(project) == [("03-09", 2), ("03-10", 1)], "A, B, A"


def test_files_of_many_days_at_once_are_built_in_few_runs(project: SourceProject) -> None:
    days = [date(2025, 3, 5) + timedelta(days=n) for n in range(12)]
    for n, day in enumerate(days):
        earlier = day - timedelta(days=n % 3)
        project.drop(f"{day}.csv", clicks((n, f"{earlier:%m-%d}"), (100 + n, f"{day:%m-%d}")))
    assert project.drain().runs <= 3
    assert len(stored(project)) == 24
    assert project.checks(days[0], days[-1], EQUAL) == {EQUAL: True}


def test_no_row_lands_before_the_first_day(project: SourceProject) -> None:
    project.drop("2025-03-01.csv", clicks((1, "03-01"), (2, "02-28")))
    project.drain()
    assert stored(project) == [("03-01", 1)]
    assert project.query("select reason from clicks_rejects") == [
        ("clicked_at: its day 2025-02-28 lies before 2025-03-01, the first that this file may carry",)
    ]


def test_the_days_of_late_rows_are_utc_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defs = {**DEFS, "time_zone": "Asia/Shanghai"}
    with source_project(tmp_path, defs, CONTRACT, monkeypatch, ETL_START_DATE="2025-03-01") as project:
        project.drop("2025-03-10.csv", "id,at\n1,2025-03-10 07:59:59\n2,2025-03-10 08:00:00\n")
        project.drain()
        assert stored(project) == [("03-09", 1), ("03-10", 2)]


def test_a_backfill_by_hand_of_an_event_day_reads_its_window_of_raw_days(project: SourceProject) -> None:
    project.drop("2025-03-10.csv", clicks((1, "03-10"), (2, "03-09")))
    project.drop("2025-03-11.csv", clicks((3, "03-09"), (4, "03-11")))
    project.drain()
    expected = stored(project)
    job = project.deployment.jobs["build_days"]
    for first, last in ((9, 9), (9, 11)):
        tags = utc.run_tags(date(2025, 3, first), date(2025, 3, last))
        selection = [project.definitions.resolve_asset_graph().toposorted_asset_keys[-1]]
        assert selection[0].to_user_string() == "clicks"
        done = job.execute_in_process(instance=project.deployment.instance, tags=tags, asset_selection=selection)
        assert done.success
        assert stored(project) == expected
    assert project.query("select bool_or(changed) from etl_commits where sequence > 2") in ([(False,)], [(None,)])


REPEATS = {
    "name": "clicks",
    "patterns": ["{date}-*.csv"],
    "columns": {"id": "id", "at": "clicked_at"},
    "deduplicate_on": ["id"],
}


def test_a_sender_that_repeats_itself_is_stored_once_and_the_check_accounts_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, REPEATS, CONTRACT, monkeypatch) as project:
        project.drop("2025-03-10-a.csv", clicks((1, "03-10"), (2, "03-10")))
        project.drop("2025-03-10-b.csv", clicks((2, "03-10"), (3, "03-10")))
        project.drain()
        assert stored(project) == [("03-10", 1), ("03-10", 2), ("03-10", 3)]
        assert project.checks(date(2025, 3, 10), date(2025, 3, 10), EQUAL) == {EQUAL: True}
        project.query("delete from clicks where id = 3")
        assert project.checks(date(2025, 3, 10), date(2025, 3, 10), EQUAL) == {EQUAL: False}
