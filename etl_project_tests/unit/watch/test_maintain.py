"""Dagster's history kept at a length: what goes, what must not, and what a kill in the middle leaves."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_project import instance as instances
from etl_project import settings
from etl_project.due import attempts
from etl_project.due.drain import Deployment, Drained, drain
from etl_project.instance import retention
from etl_project.proofs import stored_assets
from etl_project.proofs.verify import whole
from etl_project.settings import SettingsError
from etl_project.watch import maintain
from etl_project_tests.deployments import ROOT
from etl_project_tests.projects import SourceProject, source_project

DEFS = {
    "name": "sales",
    "patterns": ["{date}.csv"],
    "columns": {"id": "id", "n": "n"},
    "max_removed_ratio": 0.5,
    "deduplicate_on": ["id"],
}
CONTRACT = "CREATE TABLE sales (batch_date DATE NOT NULL, id BIGINT NOT NULL, n BIGINT);"
DAYS = ("2025-03-01", "2025-03-02")


def content(rows: int, value: int = 1) -> str:
    return "id,n\n" + "".join(f"{number},{value}\n" for number in range(rows))


class History:
    """A project with a history in real SQLite files, in which three runs were overtaken and one failed for good."""

    def __init__(self, project: SourceProject, instance: dg.DagsterInstance) -> None:
        self.project = project
        self.instance = instance
        self.deployment: Deployment = replace(project.deployment, instance=instance)

    def made(self) -> None:
        for value in range(4):
            for at, day in enumerate(DAYS):
                self.project.drop(f"{day}.csv", content(10, 10 * value + at))
            assert self.drain().failed == []
        repeated = content(1, 99) + "0,99\n" * 9  # Ten records and one row: the day would shrink, refused for good.
        self.project.drop(f"{DAYS[1]}.csv", repeated)
        assert len(self.drain().failed) >= 1

    def drain(self) -> Drained:
        return drain(self.deployment)

    def maintained(self, days: int = -1) -> retention.Plan:
        """By default everything that has ended is old."""
        return maintain.maintain(self.instance, self.deployment.project, days).plan

    def runs(self) -> set[str]:
        return {run.run_id for run in self.instance.get_runs()}

    def files(self) -> list[str]:
        folder = settings.load().dagster_home / "storage/history/runs"
        return sorted(path.stem for path in folder.glob("*.db") if path.stem != "index")

    def findings(self) -> list[Any]:
        definitions = self.project.definitions
        return list(whole.verify(self.instance, stored_assets(definitions, definitions.resources or {})).findings)


@contextmanager
def history(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[History]:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setattr(retention, "NEWEST_KEPT", 0)
    monkeypatch.setattr(retention, "_AT_ONCE", timedelta(0))  # The runs of this test follow each other closely.
    with (
        source_project(folder, DEFS, CONTRACT, monkeypatch, ETL_START_DATE="2025-03-01") as project,
        instances.opened() as instance,
    ):
        yield History(project, instance)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project with a history."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as monkeypatch, history(folder, monkeypatch) as one:
        one.made()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "copy")


def test_overtaken_runs_go_and_what_is_asked_about_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with history(folder, monkeypatch) as one:
        before, found = one.runs(), one.findings()
        assert one.maintained(days=1).removed == one.maintained(days=1).trimmed == ()
        assert one.runs() == before
        plan = one.maintained()
        assert len(plan.removed) >= 3
        assert one.runs() == before - set(plan.removed)
        assert set(one.files()) == one.runs() - set(plan.trimmed)
        assert one.findings() == found
        # What failed for good is known to have: nothing is tried, and nothing is built again.
        done = one.drain()
        assert (done.runs, len(done.gave_up)) == (0, 1)
        again = one.maintained()
        assert (again.removed, again.trimmed) == ((), ())


def test_the_newest_runs_stay_however_old_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with history(folder, monkeypatch) as one:
        monkeypatch.setattr(retention, "NEWEST_KEPT", 50)
        before = one.runs()
        assert one.maintained() == retention.Plan(kept=len(before))
        assert one.runs() == before


def test_a_run_whose_request_is_still_open_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with history(folder, monkeypatch) as one:
        first, *others = retention.plan(one.instance, maintain.utc.now()).removed
        run = one.instance.get_run_by_id(first)
        assert run is not None
        states = {run.tags[attempts.STATE_TAG]}
        assert retention.plan(one.instance, maintain.utc.now(), attempts.STATE_TAGS, states).removed == tuple(others)


@pytest.mark.parametrize("step", ["history.events_removed", "history.files_removed:2"])
def test_a_kill_in_the_middle_leaves_what_the_next_pass_removes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with history(folder, monkeypatch) as one:
        found, before = one.findings(), one.runs()
        removed = retention.plan(one.instance, maintain.utc.now()).removed
    child = os.fork()
    if child == 0:
        os.environ["ETL_FAULT"] = f"{step}=kill"
        with history(folder, monkeypatch) as one:
            one.maintained()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with history(folder, monkeypatch) as one:
        assert one.runs() > before - set(removed), "the kill came too late"
        one.maintained()
        assert set(one.files()) <= one.runs() <= before
        assert one.findings() == found
        assert (one.drain().runs, one.maintained().removed) == (0, ())


@pytest.mark.parametrize("text", ["90", "0d", "d", "-1d", "9999999d", "90 d"])
def test_a_length_that_is_none_is_one_line(text: str) -> None:
    with pytest.raises(maintain.NoSuchLength, match="90d or 12w"):
        maintain.days_of(text)


def test_days_and_weeks_are_lengths() -> None:
    assert (maintain.days_of("90d"), maintain.days_of("12w")) == (90, 84)


def test_the_job_and_its_schedule_are_there_where_a_length_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        asked = project.deployment.project
    assert maintain.weekly(asked) == ([], [])
    [job], [schedule] = maintain.weekly(replace(asked, settings=replace(asked.settings, history_days=90)))
    assert (job.name, schedule.job_name) == (maintain.JOB, maintain.JOB)


def test_a_number_of_days_that_is_none_is_refused_at_load() -> None:
    with pytest.raises(SettingsError, match="ETL_HISTORY_DAYS='soon' is no number of days"):
        settings.load({"ETL_HISTORY_DAYS": "soon"})
