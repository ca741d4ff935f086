"""What Dagster is told of landings: when to run again, what is news, and what could not be checked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from confluent_kafka import KafkaError

from etl_project import utc
from etl_project.cli import main
from etl_project.failures import FAILURE_TAG
from etl_project.instance import home
from etl_project.kafka import assets, landing, notes
from etl_project.kafka.broker import BrokerRefused, Unreachable, failure, is_permanent
from etl_project.kafka.client import KafkaClient
from etl_project.kafka.landing import LandingTally
from etl_project.kafka.settings import Broker
from etl_project_tests.kafka_broker import subscription

FILES = dg.AssetKey("things_files")


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ETL_KAFKA_BOOTSTRAP", "localhost:1")
    with dg.DagsterInstance.local_temp(str(tmp_path)) as opened:
        yield opened


def job() -> dg.JobDefinition:
    jobs = [assets.consume_job(subscription("t"))]
    lock = {"run_lock": dg.ResourceDefinition.none_resource()}
    return dg.Definitions(jobs=jobs, resources=lock).resolve_job_def("consume_things")


def test_after_failures_the_schedule_waits_longer_and_longer_and_a_success_ends_that(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    (schedule,) = assets.definitions(subscription("t")).schedules or ()
    assert isinstance(schedule, dg.ScheduleDefinition)
    now = datetime.now(UTC)

    def asks(seconds: int) -> bool:
        monkeypatch.setattr(utc, "now", lambda: now + timedelta(seconds=seconds))
        with dg.build_schedule_context(instance=instance) as context:
            return bool(schedule.evaluate_tick(context).run_requests)

    def ended(status: dg.DagsterRunStatus, **tags: str) -> None:
        instance.create_run_for_job(job(), status=status, tags={FAILURE_TAG: tags["kind"]} if tags else {})

    assert asks(0)
    ended(dg.DagsterRunStatus.FAILURE)
    assert (asks(0), asks(40)) == (False, True)
    ended(dg.DagsterRunStatus.FAILURE)
    assert (asks(40), asks(80)) == (False, True)
    ended(dg.DagsterRunStatus.SUCCESS)
    assert asks(0)
    ended(dg.DagsterRunStatus.FAILURE, kind="permanent")
    assert (asks(3500), asks(3700)) == (False, True), "what was mended meanwhile is noticed within the hour"


def test_the_pause_is_no_longer_where_the_clock_of_the_machine_that_landed_is_ahead() -> None:
    asked_at, run = utc.now(), dg.DagsterRun("consume_things", status=dg.DagsterRunStatus.FAILURE)
    for ended, counts in ((asked_at + timedelta(hours=1), asked_at), (asked_at - timedelta(hours=1),) * 2):
        record: Any = SimpleNamespace(dagster_run=run, create_timestamp=asked_at, update_timestamp=ended)
        assert assets._attempt(record).ended_at == counts


def test_a_landing_is_noted_where_it_is_news_and_a_loss_turns_the_check_red_at_once(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    tallies = [
        LandingTally(landed=5, lag={0: 0}),
        LandingTally(lag={0: 0}),
        LandingTally(lag={0: 0}),
        LandingTally(lag={0: 7}),
        LandingTally(lost=3),
    ]
    counts = []
    for tally in tallies:
        monkeypatch.setattr(landing, "land", lambda *_, tally=tally: tally)
        assert job().execute_in_process(instance=instance).success
        counts.append(len(instance.fetch_observations(FILES, limit=10).records))
    assert counts == [1, 1, 1, 2, 3]
    key = dg.AssetCheckKey(FILES, assets.NO_HOLES)
    [record] = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    assert record.event is not None
    evaluation = record.event.dagster_event and record.event.dagster_event.asset_check_evaluation_data
    assert evaluation is not None and not evaluation.passed and "3 offsets were gone" in str(evaluation.description)


def noted(instance: dg.DagsterInstance) -> list[object]:
    """The landed messages of every note, oldest first."""
    found = instance.fetch_observations(FILES, limit=10).records
    events = [record.event_log_entry.asset_observation for record in reversed(found)]
    return [event.metadata["landed messages"].value for event in events if event is not None]


def test_a_long_landing_is_noted_once_a_minute_with_what_came_since_and_a_loss_at_once(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("etl_project.kafka.notes.time.monotonic", lambda: clock[0])
    made, tally = notes.Notes(instance, FILES.to_user_string(), pytest.fail), LandingTally()
    made.write()
    assert noted(instance) == [], "there is nothing to say before the first batch"
    for seconds, landed, expected in ((10, 5, []), (61, 7, [12]), (70, 1, [12]), (130, 0, [12, 1])):
        clock[0], tally.landed = seconds, tally.landed + landed
        made.tell(tally)
        assert noted(instance) == expected
    tally.lost = 2
    made.tell(tally)
    made.write()
    assert noted(instance) == [12, 1, 0], "and not twice"


def test_a_history_that_cannot_be_written_is_told_and_the_landing_goes_on(instance: dg.DagsterInstance) -> None:
    told: list[str] = []
    made = notes.Notes(instance, FILES.to_user_string(), told.append)
    made.tell(LandingTally(landed=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dg.DagsterInstance, "fetch_observations", lambda *_, **__: broken())
        patch.setattr(dg.DagsterInstance, "report_runless_asset_event", lambda *_: broken())
        made.write()
    assert len(told) == 1 and "disk I/O error" in told[0]
    made.write()
    assert noted(instance) == [1]


def broken() -> None:
    raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize("fails", [False, True])
def test_etl_consume_notes_what_it_landed_as_the_job_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ETL_KAFKA_BOOTSTRAP", "localhost:9")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)

    def land(*arguments: Any) -> LandingTally:
        tally = LandingTally(landed=5, lag={0: 0})
        arguments[-1].tell(tally)
        if fails:
            raise Unreachable("gone")
        return tally

    monkeypatch.setattr("etl_project.kafka.land", land)
    result = CliRunner().invoke(main.load("consume"), ["payments", "--until-end"])
    assert (result.exit_code == 0) is not fails
    with home.opened() as opened:
        found = opened.fetch_observations(dg.AssetKey("payments_files"), limit=5).records
    events = [one.event_log_entry.asset_observation for one in found]
    assert [event.metadata["landed messages"].value for event in events if event is not None] == [5]


@pytest.mark.parametrize("broken", ["no such option", "silent"])
def test_what_could_not_be_checked_is_a_warning_and_never_passed(
    broken: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if broken == "silent":
        monkeypatch.setattr("etl_project.kafka.lag._PATIENCE_SECONDS", 0.1)
    else:
        monkeypatch.setenv("ETL_KAFKA_CONFIG", str(tmp_path / "missing.properties"))
    [check] = assets.definitions(subscription("t")).asset_checks or ()
    result: Any = check()
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "not checked" in result.description


def test_a_client_that_has_given_up_is_refused_and_not_waited_for() -> None:
    client = KafkaClient(subscription("t"), Broker("localhost:1"), 60, lambda text: None)
    fenced = KafkaError(KafkaError.FENCED_INSTANCE_ID, "fenced", fatal=True)
    client.note(fenced)
    with pytest.raises(BrokerRefused, match=r"fenced.*the client has given up.*group\.instance\.id"):
        client.consume(1)
    assert is_permanent(KafkaError(KafkaError._FATAL))
    assert not is_permanent(KafkaError(KafkaError.FENCED_INSTANCE_ID)), "a rebalance, where the client goes on"
    assert isinstance(failure(fenced, "landing", Broker("b")), BrokerRefused)
