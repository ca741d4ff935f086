"""What a drain does about days at fault: everything else is built in the same call."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from etl_project.due import drain as draining
from etl_project.due.pending import Due
from etl_project.storage.contract import Transient
from etl_project_tests.projects import SourceProject, source_project

CONTRACT = "CREATE TABLE counts (batch_date DATE NOT NULL, units INTEGER NOT NULL);"
DEFS = {"name": "counts", "patterns": ["{date}.csv"], "columns": {"units": "units"}, "empty_days": "allowed"}
DAYS = [date(2025, 3, number) for number in range(1, 11)]
BAD = DAYS[4]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceProject]:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch, ETL_START_DATE="2025-03-01") as made:
        for day in DAYS:
            made.drop(f"{day}.csv", f"units\n{day.day}\n")
        yield made


def built(project: SourceProject) -> list[date]:
    return [day for (day,) in project.query("select distinct batch_date from counts order by all")]


@pytest.mark.long
def test_one_file_that_cannot_be_received_and_one_that_no_longer_fits_cost_their_own_day_only(
    project: SourceProject,
) -> None:
    archive = project.data / "archive" / "counts"
    archive.mkdir(parents=True)
    (archive / str(BAD)).touch()  # Where a folder has to be made: nothing can be received for that day.
    done = project.drain()
    assert built(project) == [day for day in DAYS if day != BAD]
    assert (done.failed[-1].first, done.failed[-1].last) == (BAD, BAD)
    again = project.drain()
    assert [(one.first, one.last) for one in again.failed] == [(BAD, BAD)], "the others are not touched again"

    (archive / str(BAD)).unlink()
    assert not project.drain().failed and built(project) == DAYS
    [version] = (archive / str(BAD)).rglob("000001-*")
    version.write_text("something else\n1\n")
    shutil.rmtree(project.data / "lake")
    done = project.drain()
    raw = {folder.name for folder in (project.data / "lake" / "raw_counts").glob("*=*") if any(folder.iterdir())}
    assert raw == {f"batch_date={day}" for day in DAYS if day != BAD}
    assert (done.failed[-1].first, done.failed[-1].last) == (BAD, BAD)
    assert built(project) == DAYS, "the last good rows stay"


def test_an_archive_that_is_gone_for_a_while_changes_nothing(project: SourceProject) -> None:
    project.drain()
    archive = project.data / "archive"
    archive.rename(archive.with_name("elsewhere"))
    assert project.drain().runs == 0
    by_hand = Due(DAYS[0], DAYS[-1], ("counts_files", "raw_counts", "counts", "counts_rejects"), "by hand")
    [complaint, *_] = draining.execute(project.deployment, by_hand).complaints
    assert "not in the archive any more" in complaint
    assert built(project) == DAYS
    archive.with_name("elsewhere").rename(archive)
    assert project.drain().runs == 0


def test_an_outage_is_not_tried_on_every_day(project: SourceProject, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def nothing_works(_deployment: object, one: object, _tags: object) -> draining.Ended:
        tried.append(one)
        return draining.Ended((str(Transient("no space left")),))

    monkeypatch.setattr(draining, "execute", nothing_works)
    monkeypatch.setattr(draining, "MOST_FAILURES_IN_A_ROW", 4)
    monkeypatch.setattr(
        draining.attempts,
        "attempts_of",
        lambda _instance, states: {state: _failed(state, tried) for state in states},
    )
    assert len(project.drain().failed) == len(tried) == 4


def _failed(state: str, tried: list[object]) -> list[draining.attempts.Attempt]:
    at = draining.utc.now()
    return [draining.attempts.Attempt(False, True, at) for one in tried if getattr(one, "state", None) == state]


def test_each_step_is_told_as_it_ends(project: SourceProject) -> None:
    told: list[str] = []
    draining.drain(replace(project.deployment, on_step=told.append))
    assert set(told) >= {"counts_files", "counts"}
    told.clear()
    draining.drain(replace(project.deployment, on_step=told.append))
    assert told == []
