"""Archived files that are gone: no day is rolled back without a word, and verify names them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from etl_project import utc
from etl_project.due.drain import drain, execute
from etl_project.due.pending import Due
from etl_project.due.snapshot import look
from etl_project.proofs.verify import archived
from etl_project.proofs.verify.findings import DaySpan
from etl_project.storage.dagster.asked import ALLOW_SHRINK_TAG
from etl_project_tests.projects import SourceProject, source_project

CONTRACT = "CREATE TABLE counts (batch_date DATE NOT NULL, units INTEGER NOT NULL);"
DEFS = {"name": "counts", "patterns": ["*{date}.csv"], "columns": {"units": "units"}, "empty_days": "allowed"}
DAY = "2025-03-04"


def found(project: SourceProject) -> list[tuple[str | None, str]]:
    known = project.deployment.project
    findings = archived.losses(known.settings.archive, known.sources, known.lake, DaySpan())
    return [(one.partition, one.found) for one in findings]


def versions(project: SourceProject, day: str = DAY) -> list[Path]:
    paths = (project.data / "archive" / "counts" / day).rglob("0*-*")
    return sorted((path for path in paths if path.is_file()), key=lambda path: path.name)


def rows(project: SourceProject) -> list[tuple[Any, ...]]:
    return project.query("select batch_date::varchar, sum(units)::int from counts group by all order by all")


def filled(project: SourceProject) -> list[tuple[Any, ...]]:
    """Two versions of one file, another beside it, and days around them."""
    for name, text in (
        ("a-2025-03-03.csv", "units\n1\n2\n"),
        (f"a-{DAY}.csv", "units\n10\n11\n"),
        (f"b-{DAY}.csv", "units\n100\n110\n"),
        ("a-2025-03-05.csv", "units\n3\n4\n"),
    ):
        project.drop(name, text)
    project.drain()
    project.drop(f"a-{DAY}.csv", "units\n20\n21\n")
    assert project.drain().failed == []
    assert found(project) == []
    return rows(project)


@pytest.mark.parametrize(
    ("gone", "files_per_day"),
    [
        ("the newest", "latest"),
        ("the first", "many"),
        ("all", "many"),
        pytest.param("the newest", "many", marks=pytest.mark.long),
        pytest.param("the first", "latest", marks=pytest.mark.long),
        pytest.param("all", "latest", marks=pytest.mark.long),
    ],
)
def test_a_day_is_not_rolled_back_when_archived_versions_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str, files_per_day: str
) -> None:
    with source_project(tmp_path, {**DEFS, "files_per_day": files_per_day}, CONTRACT, monkeypatch) as project:
        before = filled(project)
        there = versions(project)
        aside = tmp_path / "aside"
        aside.mkdir()
        moved = {"the newest": there[-1:], "the first": there[:1], "all": there}[gone]
        for path in moved:
            path.rename(aside / path.name)
        for _ in range(2):
            done = project.drain()
            assert (done.runs, rows(project)) == (0, before)
            [(day, told)] = found(project)
            assert (day == DAY and "gone" in told) or "no version is left" in told
            if gone != "the first":
                assert [DAY in why for why in done.passed_over] == [True]
                seen = look(project.deployment.project, utc.now())
                assert [DAY in why for why in seen.held_up] == [True]
        for path in moved:
            (aside / path.name).rename(path)
        assert project.drain().runs == 0
        assert (found(project), rows(project)) == ([], before)


def test_a_new_file_for_a_day_that_lost_another_does_not_take_its_rows_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        before = filled(project)
        [lost] = [path for path in versions(project) if f"b-{DAY}.csv" in path.parts]
        content = lost.read_text()
        lost.unlink()
        project.drop(f"c-{DAY}.csv", "units\n1000\n1001\n")
        project.drain()
        assert rows(project) == before, "it waits in the archive until what is gone is back"
        project.drop(f"b-{DAY}.csv", content)
        project.drain()
        assert dict(rows(project))[DAY] == dict(before)[DAY] + 2001


def test_a_day_is_built_from_what_is_left_where_that_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        before = filled(project)
        versions(project)[-1].unlink()
        day = date.fromisoformat(DAY)
        asked = Due(day, day, ("raw_counts", "counts_rejects"), "by hand")
        assert not execute(project.deployment, asked).success, "by hand it is refused as well"
        assert rows(project) == before
        assert execute(project.deployment, asked, {ALLOW_SHRINK_TAG: "true"}).success
        assert drain(project.deployment).failed == []
        assert dict(rows(project))[DAY] == 10 + 11 + 100 + 110


def test_days_of_which_all_files_are_gone_are_one_line_and_closed_days_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        for day in (1, 2, 5, 6):
            project.drop(f"2025-03-0{day}.csv", f"units\n{day}\n")
        assert project.drain().all_well
        assert [day for day, _ in rows(project)] == [f"2025-03-0{day}" for day in (1, 2, 5, 6)]
        (project.data / "archive").rename(tmp_path / "elsewhere")
        for _ in range(2):
            done = project.drain()
            [told] = done.passed_over
            assert "2025-03-01 to 2025-03-02, 2025-03-05 to 2025-03-06 are not built again" in told
            assert "send the files again" in told and done.runs == 0 and not done.all_well
        for day in (1, 2, 5, 6):
            project.drop(f"2025-03-0{day}.csv", f"units\n{day}\n")
        assert project.drain().all_well


@pytest.mark.parametrize("partly", [False, True])
def test_days_before_a_start_date_that_was_moved_are_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partly: bool
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        for day in (1, 3):
            project.drop(f"2025-03-0{day}.csv", f"units\n{day}\n")
        assert project.drain().all_well
        if partly:
            for file in [path for path in (project.data / "archive").rglob("*") if path.is_file()]:
                file.rename(file.with_name(f"000001-{'0' * 64}"))  # Another version is there, theirs is gone.
        else:
            (project.data / "archive").rename(tmp_path / "elsewhere")
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch, ETL_START_DATE="2025-03-02") as project:
        [told] = project.drain().passed_over
        assert "2025-03-03" in told and "2025-03-01" not in told
