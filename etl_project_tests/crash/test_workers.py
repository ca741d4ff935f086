"""Runs on several machines by Celery: workers that die, stand still or are given a task twice; a broker that restarts.

A machine here is a process group. Every run takes one day's file into the raw layer.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import psutil
import pytest
from psycopg.conninfo import conninfo_to_dict

from etl_project.definitions import build_defs
from etl_project.due import attempts
from etl_project.storage import ParquetStore
from etl_project_tests import brokers, cluster, postgres, s3
from etl_project_tests.brokers import eventually
from etl_project_tests.cluster import Cluster, Worker
from etl_project_tests.crash.locks.places import Database
from etl_project_tests.deployments import order_file

pytestmark = [postgres.needed, cluster.needed, pytest.mark.stress, pytest.mark.timeout(900)]

DAY = date(2025, 3, 3)
RAW = ("orders_files", "raw_orders")
over_each_broker = pytest.mark.parametrize("machines", brokers.BROKERS, indirect=True)
ELSEWHERE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")


@pytest.fixture
def machines(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A deployment with a broker (Redis, unless a test says which) and without workers, and a file that waits."""
    made = cluster.on_servers(tmp_path, Database.of(tmp_path).url, kind=getattr(request, "param", "redis"))
    with cluster.running(made, monkeypatch) as running:
        running.place.drop(f"{DAY}.csv", order_file(DAY))
        yield running


@pytest.fixture
def instance(machines: Cluster) -> Iterator[dg.DagsterInstance]:
    with machines.instance() as opened:
        yield opened


def launched(machines: Cluster, instance: dg.DagsterInstance) -> str:
    return machines.launched(instance, build_defs().resolve_job_def("build_days"), (DAY, DAY), RAW)


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def ended(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    finished = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    eventually(lambda: status(instance, run_id) in finished, f"run {run_id} ends")
    return status(instance, run_id)


def buried(instance: dg.DagsterInstance, run_id: str) -> None:
    """What each tick of the sensor, and each drain, does first."""
    eventually(lambda: run_id in attempts.bury_the_dead(instance), f"run {run_id} is known to be dead")


def state_of_task(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return str(instance.run_launcher.celery.AsyncResult(run.tags["dagster-celery/task_id"]).state)  # type: ignore[attr-defined]


def times(instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType) -> int:
    return len(instance.all_logs(run_id, of_type=kind))


def committed(machines: Cluster) -> dict[str, str]:
    """The runs that the raw days were written by."""
    return raw_runs(ParquetStore(machines.place.data / "lake"))


def raw_runs(lake: ParquetStore) -> dict[str, str]:
    return {str(key): commit.run_id for (_, key), commit in lake.last_commits(["raw_orders"]).items()}


def is_stopped(worker: Worker) -> bool:
    """Whether the process of a run, somewhere below the worker, stands still."""
    below = psutil.Process(worker.process.pid).children(recursive=True)
    return any(process.status() == psutil.STATUS_STOPPED for process in below)


@over_each_broker
def test_the_run_of_a_killed_worker_is_ended_and_another_worker_builds_its_day(
    machines: Cluster, instance: dg.DagsterInstance
) -> None:
    lost = machines.worker("lost", ETL_FAULT="parquet.half_written=stop")
    run_id = launched(machines, instance)
    eventually(lambda: is_stopped(lost), "the run is in the middle of its work")
    lost.kill()
    assert status(instance, run_id) is dg.DagsterRunStatus.STARTED and state_of_task(instance, run_id) == "STARTED"
    health = instance.run_launcher.check_run_worker_health(instance.get_run_by_id(run_id))  # type: ignore[arg-type]
    assert health.status.value == "RUNNING", "for Celery it is at work for ever"
    buried(instance, run_id)
    assert status(instance, run_id) is dg.DagsterRunStatus.FAILURE and committed(machines) == {}
    again = launched(machines, instance)
    machines.worker("next")
    assert ended(instance, again) is dg.DagsterRunStatus.SUCCESS
    assert committed(machines) == {str(DAY): again} and attempts.bury_the_dead(instance) == []


def test_a_worker_killed_before_its_run_took_any_lock_does_not_leave_it_started_for_ever(
    machines: Cluster, instance: dg.DagsterInstance
) -> None:
    lost = machines.worker("lost", ETL_FAULT="worker.at_work=stop")
    run_id = launched(machines, instance)
    eventually(lambda: is_stopped(lost), "the run is about to begin")
    lost.kill()
    buried(instance, run_id)
    assert status(instance, run_id) is dg.DagsterRunStatus.FAILURE


@over_each_broker
def test_a_queued_task_of_an_abandoned_run_changes_nothing_when_it_is_executed_later(
    machines: Cluster, instance: dg.DagsterInstance
) -> None:
    run_id = launched(machines, instance)
    assert machines.broker.queued() == 1
    instance.report_run_failed(instance.get_run_by_id(run_id), "Nobody took it in time.")  # type: ignore[arg-type]
    machines.worker("late")
    eventually(lambda: state_of_task(instance, run_id) == "SUCCESS", "the task is executed")
    assert status(instance, run_id) is dg.DagsterRunStatus.FAILURE
    assert times(instance, run_id, dg.DagsterEventType.RUN_START) == 0 and committed(machines) == {}
    assert [path.name for path in machines.place.incoming.iterdir()] == [f"{DAY}.csv"]


@over_each_broker
def test_a_broker_that_is_killed_and_started_again_loses_nothing_and_doubles_nothing(
    machines: Cluster, instance: dg.DagsterInstance
) -> None:
    before = launched(machines, instance)
    machines.broker.kill()
    machines.broker.start()
    assert machines.broker.queued() == 1, "what was queued is on its disk"
    worker = machines.worker("one")
    assert ended(instance, before) is dg.DagsterRunStatus.SUCCESS
    machines.broker.kill()
    machines.broker.start()
    after = launched(machines, instance)
    assert ended(instance, after) is dg.DagsterRunStatus.SUCCESS, worker.log.read_text()[-3000:]
    assert [times(instance, run_id, dg.DagsterEventType.RUN_START) for run_id in (before, after)] == [1, 1]
    assert machines.broker.queued() == 0 and committed(machines) == {str(DAY): before}, "the second found it unchanged"
    password = str(conninfo_to_dict(postgres.SERVER)["password"])
    kept = machines.broker.kept()
    assert kept and not any(password.encode() in content for content in kept), "no password goes over the broker"
    told = worker.log.read_text() + Path(f"/proc/{worker.process.pid}/cmdline").read_text()
    assert password not in told and brokers.PASSWORD not in told


@s3.needed
def test_a_worker_that_stood_still_for_longer_than_its_lease_changes_nothing_when_it_goes_on(
    machines: Cluster, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not a folder: who stands still in the middle of replacing a file keeps others away from it, by the kernel's lock.
    monkeypatch.setenv("ETL_LAKE", s3.url_of(tmp_path))
    # A process that can be seen is never taken for dead: it has to be on another machine.
    asleep = machines.worker("asleep", before=ELSEWHERE, ETL_FAULT="parquet.half_written=stop")
    first = launched(machines, instance)
    eventually(lambda: is_stopped(asleep), "the run is in the middle of its work")
    asleep.signal_group(signal.SIGSTOP)
    buried(instance, first)
    machines.place.drop(f"{DAY}.csv", order_file(DAY, price="9.75"))
    machines.worker("awake")
    second = launched(machines, instance)
    assert ended(instance, second) is dg.DagsterRunStatus.SUCCESS
    asleep.signal_group(signal.SIGCONT)
    eventually(lambda: times(instance, first, dg.DagsterEventType.STEP_FAILURE), "the first run fails")
    [failed] = instance.all_logs(first, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert "no longer holds" in str(failed.dagster_event.step_failure_data.error), failed  # type: ignore[union-attr]
    assert raw_runs(s3.lake_of(tmp_path)) == {str(DAY): second}
    assert ended(instance, first) is dg.DagsterRunStatus.FAILURE


@over_each_broker
def test_no_run_waits_behind_another_one_while_another_worker_is_idle(
    machines: Cluster, instance: dg.DagsterInstance
) -> None:
    busy = machines.worker("busy", ETL_FAULT="worker.at_work=stop")
    first = launched(machines, instance)
    eventually(lambda: is_stopped(busy), "the only slot is taken")
    waiting = [launched(machines, instance) for _ in range(2)]
    machines.worker("idle")
    assert [ended(instance, run_id) for run_id in waiting] == [dg.DagsterRunStatus.SUCCESS] * 2
    assert not times(instance, first, dg.DagsterEventType.RUN_START)


@over_each_broker
def test_a_task_that_is_delivered_twice_is_executed_once(machines: Cluster, instance: dg.DagsterInstance) -> None:
    run_id = launched(machines, instance)
    machines.broker.deliver_twice()
    machines.worker("both", slots=2)
    assert ended(instance, run_id) is dg.DagsterRunStatus.SUCCESS
    eventually(lambda: machines.broker.queued() == 0, "both are taken")
    assert times(instance, run_id, dg.DagsterEventType.RUN_START) == 1 and committed(machines) == {str(DAY): run_id}


def test_what_keeps_a_worker_from_working_is_one_line_without_a_password(machines: Cluster) -> None:
    there, nobody = machines.broker.folder, "redis://:wrong-secret@127.0.0.1:1/0"
    for change, says in (
        ({"ETL_BROKER": f"redis+socket://:wrong-secret@{there}/s"}, "Retrying does not help. Correct the address"),
        ({"ETL_BROKER": f"redis+socket://:wrong-secret@{there}/nobody"}, "retrying helps once it does"),
        ({"ETL_BROKER": "rpc://"}, "has no durable broker"),
        ({"ETL_BROKER": "amqp://etl:wrong-secret@there//"}, "has no durable backend"),
        ({"ETL_BROKER": "nonsense:wrong-secret"}, "has no durable broker"),
        ({"ETL_BROKER": "reddis://:wrong-secret@there"}, "Retrying does not help"),
        ({"ETL_BROKER": "redis://:wrong-secret/x@there/0"}, "cannot be read. Retrying does not help"),
        ({"ETL_BROKER": f"{nobody};{nobody}"}, "retrying helps once it does"),
        ({"ETL_BROKER": "postgresql://etl:wrong-secret@there/etl"}, "Celery knows no backend 'postgresql'"),
        ({"DAGSTER_HOME": ""}, "DAGSTER_HOME is not set"),
    ):
        done = machines.place.etl("worker", **{**machines.settings, **change, "ETL_WAIT_SECONDS": "0"})
        [line] = [line for line in done.stderr.splitlines() if line.startswith("etl: ")]
        assert done.returncode == 2 and says in line, done.stderr
        told = done.stdout + done.stderr
        assert "wrong-secret" not in told and brokers.PASSWORD not in told and "Traceback" not in told
        assert str(os.environ["DAGSTER_POSTGRES_URL"]) not in told


@pytest.mark.parametrize("machines", brokers.BROKERS[1:], indirect=True)
def test_what_keeps_a_worker_from_rabbitmq_is_one_line_without_a_password(machines: Cluster) -> None:
    there = machines.broker.url
    nobody = there.replace(brokers.PASSWORD, "wrong-secret")
    for url, says in (
        (nobody, "Retrying does not help. Correct the address"),
        (f"{there[:-1]}nowhere", "Retrying does not help. Correct the address"),
        (f"amqp://etl:{brokers.PASSWORD}@127.0.0.1:1//", "retrying helps once it does"),
    ):
        done = machines.place.etl("worker", **{**machines.settings, "ETL_BROKER": url, "ETL_WAIT_SECONDS": "0"})
        [line] = [line for line in done.stderr.splitlines() if line.startswith("etl: ")]
        told = done.stdout + done.stderr
        assert done.returncode == 2 and says in line, told
        assert "wrong-secret" not in told and brokers.PASSWORD not in told and "Traceback" not in told
