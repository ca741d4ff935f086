"""What the sensor says of objects: a run where there is something to do, words where there is not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_project import settings
from etl_project.due import Project, attempts, fetching
from etl_project.sources.bucket.sorting import Sorted
from etl_project_tests import s3
from etl_project_tests.unit.sources.bucket.test_sorting import Listed
from etl_project_tests.unit.sources.bucket_world import BucketWorld
from etl_project_tests.unit.sources.world import rows, spec

looking = pytest.importorskip("etl_project.sources.bucket.looking", reason="needs the extra `s3`")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def look(*fetch: Listed, behind: int = 0, problem: str = "") -> Any:
    found = Sorted(behind=tuple(Listed(f"sales/{n}") for n in range(behind)))
    problems = {"other": problem} if problem else {}
    return looking.Look({"sales": looking.Seen(fetch=fetch, found=found)}, problems)


def asked(seen: Any, instance: dg.DagsterInstance) -> Any:
    return fetching.request(seen, instance)


def run(instance: dg.DagsterInstance, request: dg.RunRequest, status: dg.DagsterRunStatus) -> None:
    run = instance.create_run_for_job(empty_job, tags=request.tags)
    if status is dg.DagsterRunStatus.FAILURE:
        instance.report_run_failed(run)


@dg.job(name=attempts.FETCH_JOB)
def empty_job() -> None:
    pass


def test_the_same_objects_are_the_same_request_and_a_replaced_one_is_another(instance: dg.DagsterInstance) -> None:
    first, again = asked(look(Listed("sales/a")), instance), asked(look(Listed("sales/a")), instance)
    assert first.run_key == again.run_key
    assert first.run_key != asked(look(Listed("sales/a", etag="2")), instance).run_key


def test_without_anything_to_do_it_says_what_waits_and_what_is_wrong(instance: dg.DagsterInstance) -> None:
    said = asked(look(behind=1, problem="no permission"), instance).skip_message
    assert "1 objects wait in the bucket: 0" in said and "no permission" in said
    assert asked(look(), instance).skip_message == "Nothing waits in the bucket."


def test_while_a_run_fetches_no_other_is_asked_for(instance: dg.DagsterInstance) -> None:
    seen = look(Listed("sales/a"))
    run(instance, asked(seen, instance), dg.DagsterRunStatus.NOT_STARTED)
    assert "A run is fetching" in asked(look(Listed("sales/b")), instance).skip_message


def test_what_failed_is_asked_for_again_after_a_pause(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = look(Listed("sales/a"))
    first = asked(seen, instance)
    run(instance, first, dg.DagsterRunStatus.FAILURE)
    assert "Tried again after" in asked(seen, instance).skip_message
    monkeypatch.setattr("etl_project.utc.now", lambda: datetime(2100, 1, 1, tzinfo=UTC))
    assert asked(seen, instance).run_key != first.run_key


@s3.needed
def test_the_job_fetches_what_the_sensor_asks_for_and_then_there_is_nothing_to_ask_for(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    world = BucketWorld(tmp_path)
    world.drop("a-2024-03-05.csv", rows(3))
    project = Project(world.settings, (spec(settle_seconds=0),), ())
    [job], [sensor] = fetching.fetch_jobs(project), fetching.fetch_sensors(project)
    with dg.build_sensor_context(instance=instance) as context:
        request = sensor(context)
        assert isinstance(request, dg.RunRequest)
        assert job.execute_in_process(instance=instance, tags=request.tags).success
        assert (world.folder / "a-2024-03-05.csv").read_bytes() == rows(3)
        assert sensor(context).skip_message == "Nothing waits in the bucket."  # type: ignore[union-attr]


def test_without_a_bucket_there_is_no_job_and_no_sensor(tmp_path: Path) -> None:
    project = Project(settings.load({"ETL_DATA_DIR": str(tmp_path)}), (), ())
    assert fetching.fetch_jobs(project) == [] == fetching.fetch_sensors(project)
