"""Which due runs are asked for now: pauses after failures, none after a permanent one, none beside a running one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.storage.tags import HIDDEN_TAG_PREFIX
from dagster._core.test_utils import create_run_for_test

from etl_project import settings, utc
from etl_project.definitions import build_defs
from etl_project.due import attempts, sensor
from etl_project.due.pending import Due, Node, SourceState
from etl_project.due.snapshot import Project, Snapshot, due
from etl_project.exclusion import processes, run_lock
from etl_project.failures import FAILURE_TAG
from etl_project.sources.intake.scan import Entry, Scan, Unplaced
from etl_project.storage import Commit
from etl_project_tests import postgres, steady
from etl_project_tests.crash.locks.places import Database

ENDED = datetime(2025, 3, 20, 12, tzinfo=UTC)
DAY = date(2025, 3, 3)


def failed(times: int, *, permanent: bool = False) -> list[attempts.Attempt]:
    return [attempts.Attempt(permanent, True, ENDED - timedelta(hours=times - n)) for n in range(1, times + 1)]


@pytest.mark.parametrize(
    ("times", "pause"),
    [(1, timedelta(seconds=30)), (2, timedelta(minutes=1)), (4, timedelta(minutes=4)), (20, timedelta(hours=1))],
)
def test_a_transient_failure_is_asked_for_again_with_growing_pauses(times: int, pause: timedelta) -> None:
    assert attempts.wait_until(failed(times)) == ENDED + pause


def test_a_permanent_failure_is_never_asked_for_as_it_is() -> None:
    assert attempts.wait_until([*failed(1, permanent=True), *failed(1)]) == attempts.NEVER


def test_what_was_never_tried_is_asked_for_at_once() -> None:
    assert attempts.wait_until([]) is None


def test_a_success_settles_what_failed_before_it() -> None:
    before = failed(9, permanent=True)
    success = attempts.Attempt(False, False, ENDED + timedelta(hours=1))
    again = attempts.Attempt(False, True, ENDED + timedelta(hours=2))
    assert attempts.wait_until([*before, success]) == success.ended_at + timedelta(seconds=30)
    assert attempts.wait_until([*before, success, again]) == again.ended_at + timedelta(seconds=30)
    assert not attempts.to_be_split([*before, success])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Project:
    loaded = settings.load({"ETL_DATA_DIR": str(tmp_path)})
    return Project(loaded, (), (Node("shop_files", source="shop"), Node("raw_shop", ("shop_files",))))


@pytest.fixture
def snapshot() -> Snapshot:
    """One file waits for one day."""
    scan = Scan((), (), (), 0, ())
    return Snapshot(utc.now(), {"shop": SourceState(waiting={DAY: "a file"})}, {"shop": scan}, {})


def asked(project: Project, snapshot: Snapshot, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    return sensor.decide(project, snapshot, instance)[0]


def the_one(project: Project, snapshot: Snapshot) -> Due:
    [one] = due(project, snapshot)
    return one


def test_the_sensor_asks_for_the_due_day_with_its_assets(
    project: Project, snapshot: Snapshot, instance: dg.DagsterInstance
) -> None:
    [request] = asked(project, snapshot, instance)
    assert request.tags["dagster/partition"] == str(DAY)
    assert {key.to_user_string() for key in request.asset_selection or ()} == {"shop_files", "raw_shop"}
    assert asked(project, snapshot, instance)[0].run_key == request.run_key


@pytest.mark.parametrize(
    ("status", "tags"),
    [
        (dg.DagsterRunStatus.STARTED, {}),
        (dg.DagsterRunStatus.STARTING, {}),
        (dg.DagsterRunStatus.FAILURE, {FAILURE_TAG: "permanent"}),
        (dg.DagsterRunStatus.FAILURE, {FAILURE_TAG: "transient"}),
        (dg.DagsterRunStatus.FAILURE, {}),
    ],
)
def test_a_run_for_the_same_state_holds_the_next_one_back(
    project: Project,
    snapshot: Snapshot,
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus,
    tags: dict[str, str],
) -> None:
    create_run_for_test(instance, status=status, tags={**attempts.tags(the_one(project, snapshot)), **tags})
    assert asked(project, snapshot, instance) == []


def test_after_its_pause_a_transient_failure_is_asked_for_under_another_run_key(
    project: Project, snapshot: Snapshot, instance: dg.DagsterInstance
) -> None:
    [first] = asked(project, snapshot, instance)
    create_run_for_test(instance, status=dg.DagsterRunStatus.FAILURE, tags=attempts.tags(the_one(project, snapshot)))
    later = Snapshot(snapshot.at + timedelta(minutes=1), snapshot.sources, snapshot.scans, snapshot.commits)
    [second] = asked(project, later, instance)
    assert first.run_key != second.run_key, "Dagster drops a run key that it has seen before"


def over_ten_days(snapshot: Snapshot) -> Snapshot:
    waiting = {DAY + n * utc.ONE_DAY: "a file" for n in range(10)}
    return replace(snapshot, sources={"shop": SourceState(waiting=waiting)})


def spans(requests: list[dg.RunRequest]) -> list[tuple[int, int]]:
    """The ranges that are asked for, as offsets from DAY."""
    found = [utc.days_of_run(request.tags) for request in requests]
    return [((days[0] - DAY).days, (days[1] - DAY).days) for days in found if days is not None]


def fail(instance: dg.DagsterInstance, requests: list[dg.RunRequest], kind: str, number: int) -> None:
    """Let those of the requests fail that build this day."""
    for request, (first, last) in zip(requests, spans(requests), strict=True):
        if first <= number <= last:
            tags = {**request.tags, FAILURE_TAG: kind}
            create_run_for_test(instance, status=dg.DagsterRunStatus.FAILURE, tags=tags)


def test_of_a_range_that_failed_for_good_all_days_but_the_bad_one_are_asked_for(
    project: Project, snapshot: Snapshot, instance: dg.DagsterInstance
) -> None:
    ten, seen = over_ten_days(snapshot), []
    for _ in range(6):
        requests = asked(project, ten, instance)
        seen.append(spans(requests))
        fail(instance, requests, "permanent", 5)
    assert seen == [
        [(0, 9)],
        [(0, 4), (5, 9)],
        [(0, 4), (5, 7), (8, 9)],
        [(0, 4), (5, 6), (7, 7), (8, 9)],
        [(0, 4), (5, 5), (6, 6), (7, 7), (8, 9)],
        [(0, 4), (6, 6), (7, 7), (8, 9)],
    ], "those that went well are only gone from the list once they are committed"


def test_a_range_that_may_go_well_by_itself_is_retried_whole_and_its_halves_keep_its_pause(
    project: Project, snapshot: Snapshot, instance: dg.DagsterInstance
) -> None:
    ten = over_ten_days(snapshot)
    fail(instance, asked(project, ten, instance), "transient", 5)
    assert asked(project, ten, instance) == []
    later = replace(ten, at=ten.at + timedelta(seconds=40))
    whole = asked(project, later, instance)
    assert spans(whole) == [(0, 9)]
    fail(instance, whole, "transient", 5)
    assert asked(project, later, instance) == [], "two failures: a pause of a minute, for the halves as well"
    assert spans(asked(project, replace(ten, at=ten.at + timedelta(seconds=90)), instance)) == [(0, 4), (5, 9)]


def test_files_without_a_day_that_could_not_be_moved_are_asked_for_again_after_a_pause(
    snapshot: Snapshot, instance: dg.DagsterInstance
) -> None:
    undated = (Unplaced(Entry("x.csv", "folder", 1, 2, 3), "no date"),)
    found = replace(snapshot, scans={"shop": Scan((), undated, (), 0, ())})
    [first], _ = sensor.refusals(found, instance)
    create_run_for_test(instance, status=dg.DagsterRunStatus.FAILURE, tags=dict(first.tags))
    requests, held = sensor.refusals(found, instance)
    assert requests == [] and "could not be moved" in held[0]
    [second], _ = sensor.refusals(replace(found, at=found.at + timedelta(minutes=1)), instance)
    assert first.run_key != second.run_key, "Dagster drops a run key that it has seen before"


def test_a_run_on_other_days_or_other_assets_holds_nothing_back(
    project: Project, snapshot: Snapshot, instance: dg.DagsterInstance
) -> None:
    started = dg.DagsterRunStatus.STARTED
    create_run_for_test(instance, status=started, tags=utc.run_tags(DAY + utc.ONE_DAY, DAY + 9 * utc.ONE_DAY))
    create_run_for_test(
        instance, status=started, tags=utc.run_tags(DAY, DAY), asset_selection=frozenset({dg.AssetKey("other")})
    )
    assert len(asked(project, snapshot, instance)) == 1
    create_run_for_test(instance, status=started, tags=utc.run_tags(DAY - utc.ONE_DAY, DAY))
    assert asked(project, snapshot, instance) == []


@pytest.mark.parametrize("key", ["eu", "2025-03-20-13:00", "2025-03-03|eu", "20250303", "", "March"])
def test_a_run_over_partitions_that_are_no_days_neither_stops_the_sensor_nor_holds_a_day_back(
    project: Project, snapshot: Snapshot, instance: dg.DagsterInstance, key: str
) -> None:
    started = dg.DagsterRunStatus.STARTED
    of_others = {"asset_selection": frozenset({dg.AssetKey("others")})}
    create_run_for_test(instance, status=started, tags={utc.PARTITION_TAG: key})
    create_run_for_test(instance, status=started, tags={utc.PARTITION_TAG: key}, **of_others)
    ends = {utc.RANGE_START_TAG: key, utc.RANGE_END_TAG: key}
    create_run_for_test(instance, status=started, tags=ends)
    assert spans(asked(project, snapshot, instance)) == [(0, 0)]


def test_a_running_job_of_ops_holds_nothing_back(
    project: Project, snapshot: Snapshot, instance: dg.DagsterInstance
) -> None:
    @dg.op
    def busy() -> None:
        """Nothing."""

    @dg.job
    def somebody_elses() -> None:
        busy()

    run = instance.create_run_for_job(somebody_elses, status=dg.DagsterRunStatus.STARTED)
    assert run.asset_selection is None
    assert len(asked(project, snapshot, instance)) == 1


def test_a_job_that_builds_no_days_holds_nothing_back(
    project: Project, snapshot: Snapshot, instance: dg.DagsterInstance
) -> None:
    create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags=dict(attempts.WITHOUT_DAYS))
    assert len(asked(project, snapshot, instance)) == 1
    for job in build_defs().resolve_all_job_defs():
        builds_days = job.name in (attempts.DAYS_JOB, "__ASSET_JOB")
        assert (job.run_tags.items() >= attempts.WITHOUT_DAYS.items()) is not builds_days, job.name


def test_a_run_whose_process_died_is_marked_as_failed_and_a_live_one_is_not(instance: dg.DagsterInstance) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    gone = processes.Owner(*processes.this_host(), child.pid, "1")
    child.communicate()
    started = dg.DagsterRunStatus.STARTED
    dead = create_run_for_test(instance, status=started, tags=run_lock.owner_tag(gone))
    alive = create_run_for_test(instance, status=started, tags=run_lock.owner_tag(gone, processes.this_process()))
    nobodys = create_run_for_test(instance, status=started)
    assert attempts.bury_the_dead(instance) == [dead.run_id]
    statuses = {run.run_id: run.status for run in instance.get_runs()}
    assert statuses == {
        dead.run_id: dg.DagsterRunStatus.FAILURE,
        alive.run_id: started,
        nobodys.run_id: started,
    }


@postgres.needed
def test_a_run_of_another_machine_is_marked_as_failed_once_it_gives_no_sign_of_life(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Database.of(tmp_path / "locks")
    monkeypatch.setenv("ETL_LOCKS", there.url)
    elsewhere = run_lock.owner_tag(processes.Owner("another boot", "pid:[1]", 1, "1"))
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags=elsewhere)
    with run_lock.announced(run.run_id, 0):
        assert attempts.bury_the_dead(instance) == []
    there.change("UPDATE run_at_work SET expires_at = clock_timestamp() - interval '1 second'")
    assert attempts.bury_the_dead(instance) == [run.run_id]
    assert attempts.bury_the_dead(instance) == []


def test_a_closed_day_is_committed_as_empty_only_where_its_source_allows_it(project: Project) -> None:
    day = steady.today() - utc.ONE_DAY
    before = day - utc.ONE_DAY
    scan = Scan((), (), (), 0, ())
    made = Commit("raw_shop", str(before), 1, "run", None, "unknown", "x", 0, 1, None, None, None, True, ENDED)

    def asked_for(empty: str | None) -> list[tuple[date, date]]:
        state = SourceState(accepted={before: "a"}, empty_fingerprint=empty)
        found = Snapshot(utc.now(), {"shop": state}, {"shop": scan}, {("raw_shop", before): made})
        return [(one.first, one.last) for one in due(project, found, closing=day)]

    assert asked_for(None) == []
    assert asked_for("nothing") == [(day, day)]


def test_the_run_of_a_range_says_its_partitions_in_a_tag_that_the_list_of_runs_shows() -> None:
    one = Due(date(2025, 3, 1), date(2025, 3, 3), ("orders",), "state")
    assert attempts.tags(one)[attempts.SPAN_TAG] == "2025-03-01 to 2025-03-03"
    assert attempts.SPAN_TAG not in attempts.tags(Due(one.first, one.first, one.assets, "state"))


def test_the_attempts_of_an_older_version_count_and_the_state_is_hidden_from_the_list_of_runs(
    instance: dg.DagsterInstance,
) -> None:
    for tag in attempts.STATE_TAGS:
        create_run_for_test(instance, tags={tag: "a state"}, status=dg.DagsterRunStatus.FAILURE)
    assert len(attempts.attempts(instance, "a state")) == 2
    made = attempts.tags(Due(date(2025, 3, 1), date(2025, 3, 1), ("orders",), "a state"))
    assert [tag for tag in made if made[tag] == "a state"] == [attempts.STATE_TAG]
    assert attempts.STATE_TAG.startswith(HIDDEN_TAG_PREFIX)


def test_the_pause_after_a_failure_on_a_machine_whose_clock_is_ahead_is_no_longer(instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, tags={attempts.STATE_TAG: "a state"}, status=dg.DagsterRunStatus.FAILURE)
    asked_at = instance.get_run_records()[0].create_timestamp
    ahead = (utc.now() + timedelta(minutes=2)).replace(tzinfo=None)
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        update = sqlalchemy.text("UPDATE runs SET update_timestamp = :ahead WHERE run_id = :run_id")
        connection.execute(update, {"ahead": str(ahead), "run_id": run.run_id})
    assert instance.get_run_records()[0].update_timestamp > utc.now() + timedelta(minutes=1)
    assert attempts.wait_until(attempts.attempts(instance, "a state")) == asked_at + timedelta(seconds=30)
