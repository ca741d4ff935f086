"""Files whose rows say their day, through sensor and drain: every day that they hold is built, and nothing else."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_project import utc
from etl_project.due import many_days, red_checks
from etl_project.due.attempts import MANY_DAYS_JOB
from etl_project.due.snapshot import due, look
from etl_project.sources import discarded
from etl_project.sources.intake import quarantine, spread
from etl_project_tests.projects import SourceProject, source_project

DEFS: dict[str, Any] = {
    "name": "sales",
    "patterns": ["*.csv"],
    "columns": {"id": "id", "day": "sold_on"},
    "day_from": "sold_on",
    "max_rejected_ratio": 0.4,
}
CONTRACT = "CREATE TABLE sales (batch_date DATE NOT NULL, id INTEGER NOT NULL, sold_on DATE NOT NULL)"
DAYS = (date(2025, 3, 21), date(2025, 3, 24))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceProject]:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as made:
        yield made


def rows(project: SourceProject) -> list[tuple[date, int]]:
    return [*project.query("SELECT batch_date, id FROM sales ORDER BY ALL")]  # type: ignore[list-item]


def test_every_day_of_a_file_is_built_and_a_second_drain_does_nothing(project: SourceProject) -> None:
    project.drop("export.csv", "id,day\n1,2025-03-21\n2,2025-03-22\n3,2025-03-24\nx,2025-03-24\n")
    done = project.drain()
    assert done.all_well and [str(one.first) for one in done.succeeded] == ["2025-03-21", "2025-03-24"]
    assert rows(project) == [(date(2025, 3, day), number) for day, number in ((21, 1), (22, 2), (24, 3))]
    assert project.query("SELECT batch_date, source_line FROM sales_rejects") == [(date(2025, 3, 24), 5)]
    checks = project.checks(*DAYS, "rows_in_equal_rows_stored_and_rejected", "no_refused_files")
    assert checks == {"rows_in_equal_rows_stored_and_rejected": True, "no_refused_files": True}
    assert project.drain().runs == 0


def test_a_correction_builds_the_days_that_it_holds_alone(project: SourceProject) -> None:
    project.drop("export.csv", "id,day\n1,2025-03-21\n2,2025-03-22\n")
    project.drain()
    project.drop("export.csv", "id,day\n5,2025-03-22\n6,2025-03-23\n")
    done = project.drain()
    assert [(str(one.first), str(one.last)) for one in done.succeeded] == [("2025-03-22", "2025-03-23")]
    assert [number for _, number in rows(project)] == [1, 5, 6]


def test_days_of_which_a_late_file_holds_too_little_keep_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, DEFS | {"files_per_day": "latest"}, CONTRACT, monkeypatch) as project:
        project.drop("a.csv", "id,day\n1,2025-03-21\n2,2025-03-21\n3,2025-03-21\n")
        project.drain()
        project.drop("b.csv", "id,day\n4,2025-03-21\n5,2025-03-22\n")
        assert [str(one.first) for one in project.drain().failed][-1] == "2025-03-21", "it would shrink by two thirds"
        assert [number for _, number in rows(project)] == [1, 2, 3, 5]


def test_the_check_of_a_discarded_file_is_red_no_longer(project: SourceProject) -> None:
    project.drop("export.csv", "id,day\n1,nope\n")
    project.drain()
    check = "no_refused_files_of_many_days"
    assert project.checks(*DAYS, check) == {check: False}
    instance, configured, [spec] = (
        project.deployment.instance,
        project.deployment.project.settings,
        project.deployment.project.sources,
    )
    discarded.tell(instance, spec, configured, [None])
    keys = project.definitions.resolve_asset_graph().asset_check_keys
    assert [one.name for one in red_checks(instance, keys)] == [check], "it is still there"
    for file in quarantine.listing(configured.quarantine):
        quarantine.discard(configured.quarantine, file)
    for _ in range(2):
        discarded.tell(instance, spec, configured, [None])
        assert red_checks(instance, keys) == []


def test_a_refused_file_turns_the_check_red_until_a_good_one_comes(project: SourceProject) -> None:
    project.drop("good.csv", "id,day\n1,2025-03-21\n")
    project.drop("export.csv", "id,day\n1,nope\n")
    project.drain()
    assert project.checks(*DAYS, "no_refused_files_of_many_days") == {"no_refused_files_of_many_days": False}
    project.drop("export.csv", "id,day\n2,2025-03-21\n")
    assert project.drain().all_well
    assert project.checks(*DAYS, "no_refused_files_of_many_days") == {"no_refused_files_of_many_days": True}
    assert [number for _, number in rows(project)] == [1, 2]


def test_the_sensor_asks_for_one_run_that_takes_the_files_in(project: SourceProject) -> None:
    place, instance = project.deployment.project, project.deployment.instance
    project.drop("export.csv", "id,day\n1,2025-03-21\n")
    snapshot = look(place, utc.now())
    [request], held = many_days.requests(snapshot, instance)
    assert (request.job_name, held, due(place, snapshot)) == (MANY_DAYS_JOB, [], [])
    job = project.deployment.jobs[MANY_DAYS_JOB]
    assert job.execute_in_process(instance=instance, tags=request.tags).success
    snapshot = look(place, utc.now())
    assert many_days.requests(snapshot, instance) == ([], [])
    assert [str(one.first) for one in due(place, snapshot)] == ["2025-03-21"]
    told = instance.fetch_materializations(dg.AssetKey("sales_files"), limit=5).records
    assert [one.partition_key for one in told] == ["2025-03-21"]


def test_a_file_that_a_kill_left_half_done_is_asked_for_without_any_other(project: SourceProject) -> None:
    [spec] = project.deployment.project.sources
    project.drop("export.csv", "id,day\n1,2025-03-21\n2,2025-03-22\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETL_FAULT", "spread.before_link:2=error")
        assert project.drain().not_taken, "the disk was in the way"
    assert spread.unfinished(project.data / "archive", spec)
    (project.data / "incoming" / "sales" / "export.csv").unlink()
    assert project.drain().all_well
    assert [number for _, number in rows(project)] == [1, 2]


def test_what_another_process_holds_up_is_said_and_waits(project: SourceProject) -> None:
    [spec] = project.deployment.project.sources
    project.drop("export.csv", "id,day\n1,2025-03-21\n")
    with spread.exclusive(project.data / "archive", spec):
        done = project.drain()
    assert not done.all_well and "another process takes its files in" in done.not_taken[0]
    assert project.drain().all_well and len(rows(project)) == 1


def test_what_the_system_puts_in_the_way_of_a_source_is_said_by_its_name(
    project: SourceProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.drop("export.csv", "id,day\n1,2025-03-21\n")

    def shut(*_: object) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", "/archive/sales/.spreading.lock")

    with monkeypatch.context() as patched:
        patched.setattr(spread, "exclusive", shut)
        [said] = project.drain().not_taken
    assert said.startswith("sales: /archive/sales/.spreading.lock: Permission denied. Its files wait where they are")
    assert project.drain().all_well and len(rows(project)) == 1


def test_a_project_without_such_a_source_has_no_such_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dated = {key: value for key, value in DEFS.items() if key != "day_from"} | {"patterns": ["{date}.csv"]}
    with source_project(tmp_path, dated, CONTRACT, monkeypatch) as project:
        assert many_days.many_days_jobs(project.deployment.project) == []
        assert many_days.requests(look(project.deployment.project, utc.now()), project.deployment.instance) == ([], [])
