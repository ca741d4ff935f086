"""Completeness: a day whose file has not come by its deadline is seen, although nothing runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import dagster as dg
import pytest

from etl_project import utc
from etl_project.cli.status import late
from etl_project.due import red_checks
from etl_project.due.snapshot import look
from etl_project.sources import completeness
from etl_project.sources.spec import SourceColumn, SourceSpec, SpecError
from etl_project.watch import status as statuses
from etl_project_tests import steady
from etl_project_tests.projects import SourceProject, source_project

pytestmark = pytest.mark.long  # Each test starts the command several times.

CONTRACT = "CREATE TABLE taps (batch_date DATE NOT NULL, id INTEGER NOT NULL);"
DEFS = {"name": "taps", "patterns": ["{date}.csv"], "columns": {"id": "id"}, "deadline": "00:00"}
FIRST = date(2025, 3, 1)


@pytest.fixture
def today() -> date:
    return steady.today()


def spec(**more: object) -> SourceSpec:
    settings: dict[str, object] = {"deadline": time(6, 30), **more}
    columns = (SourceColumn("id", "INTEGER"),)
    return SourceSpec("taps", ("{date}.csv",), {"id": "id"}, columns, FIRST, **settings)  # type: ignore[arg-type]


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2025, 3, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("come", "now", "days"),
    [
        ([], at(9, 12), []),
        ([5], at(6, 6, 29), []),
        ([5], at(7, 6, 29), []),
        ([5], at(7, 6, 30), [6]),
        ([5, 7], at(9, 6, 30), [6, 8]),
        ([5, 6, 7, 8], at(9, 6, 30), []),
        ([12], at(9, 6, 30), []),
    ],
    ids=str,
)
def test_a_day_is_overdue_from_its_deadline_on(come: list[int], now: datetime, days: list[int]) -> None:
    assert completeness.overdue(spec(), [date(2025, 3, day) for day in come], now) == [date(2025, 3, d) for d in days]


def test_nothing_is_overdue_without_a_deadline() -> None:
    assert completeness.overdue(spec(deadline=None), [FIRST], at(20, 0)) == []


def test_a_deadline_where_days_may_be_empty_is_refused() -> None:
    with pytest.raises(SpecError, match="contradict"):
        spec(empty_days="allowed")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceProject]:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as made:
        yield made


def tick(project: SourceProject, cursor: str | None = None) -> tuple[dict[str | None, bool], str | None]:
    """The days for which a sensor tick records a check result, as the daemon does, and its cursor."""
    with dg.build_sensor_context(instance=project.deployment.instance, cursor=cursor) as context:
        result = project.definitions.resolve_sensor_def("pending_days")(context)
    if not isinstance(result, dg.SensorResult):
        return {}, cursor
    told = [event for event in result.asset_events or [] if isinstance(event, dg.AssetCheckEvaluation)]
    for event in told:
        project.deployment.instance.report_runless_asset_event(event)
    return {event.partition: event.passed for event in told}, result.cursor


def test_the_sensor_tells_of_overdue_days_once_and_again_when_they_have_come(
    project: SourceProject, today: date
) -> None:
    days = [today - timedelta(days=back) for back in (4, 3, 2)]
    yesterday = today - timedelta(days=1)
    assert tick(project) == ({}, None), "a source that never sent anything owes nothing"
    project.drop(f"{days[0]}.csv", "id\n1\n")
    project.drop(f"{days[2]}.csv", "id\n3\n")
    project.drain()
    told, cursor = tick(project)
    assert told == {str(days[1]): False, str(yesterday): False} and still_red(project) == told.keys()
    assert tick(project, json.dumps({"taps": [str(days[1])]}))[0] == told, (
        "a cursor from before results were told by day"
    )
    assert tick(project, cursor) == ({}, cursor), "the same news is told once"
    for day in (days[1], yesterday):
        project.drop(f"{day}.csv", "id\n2\n")
    project.drain()
    told, _ = tick(project, cursor)
    assert told == {str(days[1]): True, str(yesterday): True}
    for _ in range(2):  # Lost cursors: told over and over, the last result is the one that counts.
        assert tick(project, None)[0] == {}
        assert tick(project, cursor)[0] == told
        assert still_red(project) == set()


def still_red(project: SourceProject) -> set[str | None]:
    keys = project.definitions.resolve_asset_graph().asset_check_keys
    return {one.partition for one in red_checks(project.deployment.instance, keys)}


def test_the_check_of_the_files_fails_while_a_day_is_overdue(project: SourceProject, today: date) -> None:
    project.drop(f"{today - timedelta(days=2)}.csv", "id\n1\n")
    project.drain()
    assert project.checks(FIRST, FIRST, completeness.CHECK) == {completeness.CHECK: False}
    project.drop(f"{today - timedelta(days=1)}.csv", "id\n1\n")
    project.drain()
    assert project.checks(FIRST, FIRST, completeness.CHECK) == {completeness.CHECK: True}


def test_status_names_the_overdue_days(project: SourceProject, today: date) -> None:
    project.drop(f"{today - timedelta(days=2)}.csv", "id\n1\n")
    project.drain()
    deployment = project.deployment
    snapshot = look(deployment.project, utc.now())
    [source] = statuses.status(deployment.project, deployment.instance, snapshot).sources
    assert source.overdue == (str(today - timedelta(days=1)),)
    assert source.overdue[0] in late(source)


def test_the_files_asset_has_a_freshness_policy_for_the_deadline(project: SourceProject) -> None:
    [policy] = {
        declared.freshness_policy
        for declared in project.definitions.resolve_all_asset_specs()
        if declared.key.to_user_string() == "taps_files"
    }
    assert isinstance(policy, dg.FreshnessPolicy)


def test_a_tick_asks_for_a_bounded_number_of_runs_and_the_next_one_goes_on(project: SourceProject) -> None:
    days = [FIRST + timedelta(days=2 * n) for n in range(60)]
    for day in days:
        project.drop(f"{day}.csv", "id\n1\n")
    instance = project.deployment.instance
    sensor = project.definitions.resolve_sensor_def("pending_days")

    def asked() -> list[str]:
        with dg.build_sensor_context(instance=instance) as context:
            result = sensor(context)
        requests = result.run_requests or [] if isinstance(result, dg.SensorResult) else []
        for request in requests:
            job = project.deployment.jobs[str(request.job_name)]
            instance.create_run_for_job(job, tags=request.tags, status=dg.DagsterRunStatus.STARTED)
        return [request.tags["dagster/partition"] for request in requests]

    first, second = asked(), asked()
    assert (len(first), len(second)) == (50, 10)
    assert sorted([*first, *second]) == [str(day) for day in days]
    assert asked() == []
