"""Everything at once: a daemon, three workers, a DuckLake, raw files in a bucket, locks on a server, and faults.

A machine here is a process group with temporary files, a host name and process numbers of its own; one of them has a
clock that is two minutes ahead. PostgreSQL and the broker are this test's own, so that they can be killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import dagster as dg
import pytest
import yaml

from etl_project.storage import ParquetStore
from etl_project.storage.engines.ducklake.engine import DuckLakeStore
from etl_project_tests import brokers, cluster, postgres, s3, s3_proxy
from etl_project_tests.cluster import Cluster, Postgres, Worker
from etl_project_tests.crash.locks.places import Database
from etl_project_tests.deployments import REAL_FILES, ROOT, Place, needs_real_files, order_file

pytestmark = [postgres.needed, s3.needed, cluster.needed, pytest.mark.stress, pytest.mark.timeout(5400)]

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
AHEAD = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "+2m"}
"""Not by the command `faketime`: what it shares is named by process numbers, which all namespaces have alike."""
ELSEWHERE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--uts")
NAMED = ("sh", "-c", 'hostname "$0" && exec "$@"')
LEASE_SECONDS = 20
"""For a busy machine: a process that gets no turn for so long is taken for dead, one fault more than is meant."""
SECONDS_BETWEEN_FAULTS = 8.0
MOST_FAULTY_REQUESTS = 60
FEWEST_REQUESTS = 37
"""By then every kind of fault of the bucket has been met."""


def generated(days: int) -> dict[str, str]:
    return {f"{day}.csv": order_file(day) for day in (date(2025, 3, 3) + timedelta(n) for n in range(days))}


def real(days: int) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(REAL_FILES.iterdir())[:days]}


def flaky(proxy: s3_proxy.Proxy) -> None:
    """Of the requests to the bucket some are answered 503, and some connections are cut."""
    number = count(1)

    def plan(_: s3_proxy.Asked) -> s3_proxy.Way:
        n = next(number)
        if n > MOST_FAULTY_REQUESTS:
            return None
        if n % 13 == 0:
            return s3_proxy.refused(503, "SlowDown")
        return s3_proxy.CUT_BEFORE if n % 29 == 0 else s3_proxy.CUT_AFTER if n % FEWEST_REQUESTS == 0 else None

    proxy.plan = plan


def instance_of_three() -> str:
    """The `dagster.yaml` of a deployment with three slots, which soon gives up a run that a killed worker took along.

    Such a run was never begun; Dagster alone can tell, by its age: that, and no more, is what a test would wait for.
    """
    shown = yaml.safe_load(cluster.dagster_yaml())
    shown["run_coordinator"]["config"]["max_concurrent_runs"] = 3
    shown["run_monitoring"] |= {"start_timeout_seconds": 60, "poll_interval_seconds": 5}
    return str(yaml.safe_dump(shown))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """A server of its own in the place of the one for tests, which others work on."""
    folder = Path(tempfile.mkdtemp(prefix="etl-postgres-"))
    folder.chmod(0o711)
    made = Postgres.made(folder)
    try:
        monkeypatch.setattr(postgres, "SERVER", made.server)
        yield made
    finally:
        made.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def daemon(machines: Cluster) -> Iterator[None]:
    """Dagster's daemon, the only one of the deployment. It ends when its database does, and is started again."""
    over = threading.Event()

    def supervise() -> None:
        while not over.is_set():
            with (machines.home / "daemon.log").open("ab") as log:
                process = subprocess.Popen(
                    [str(Path(sys.executable).parent / "dagster-daemon"), "run", "-w", "workspace.yaml"],
                    env=machines.environment(),
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            while process.poll() is None and not over.wait(0.5):
                pass
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def elsewhere(name: str) -> tuple[str, ...]:
    """What starts a worker as on a machine of its own: a host name and process numbers that nobody else has."""
    words = (*ELSEWHERE, *NAMED, name)
    return words if subprocess.run([*words, "true"], check=False, capture_output=True).returncode == 0 else ()


def is_ready(worker: Worker) -> bool:
    """Whether it takes runs; one that has ended, because what was to start it could not, is told at once."""
    assert worker.process.poll() is None, worker.log.read_text()
    return " ready." in worker.log.read_text()


def ahead_seconds() -> float:
    """By how much the clock of the second worker is ahead."""
    asked = [*elsewhere("worker-2"), "date", "+%s"]
    told = subprocess.run(asked, env={**os.environ, **AHEAD}, capture_output=True, text=True, check=True)
    return int(told.stdout) - time.time()


def inflict(machines: Cluster, server: Postgres, often: int) -> None:
    """Every few seconds a worker is killed and replaced, or stopped past its lease, or a server is killed."""
    names = count(4)
    for turn in range(often):
        time.sleep(SECONDS_BETWEEN_FAULTS)
        worker: Worker = machines.workers[-1 - turn % 3]
        if turn % 4 == 0:
            worker.kill()
            name = f"worker-{next(names)}"
            machines.worker(name, before=elsewhere(name))
        elif turn % 4 == 1:
            worker.signal_group(signal.SIGSTOP)
            time.sleep(LEASE_SECONDS * 1.5)
            worker.signal_group(signal.SIGCONT)
        elif turn % 4 == 2:
            machines.broker.kill()
            machines.broker.start()
        else:
            server.kill()
            server.start()


def prints(commits: object) -> dict[tuple[str, str], str]:
    return {(str(asset), str(key)): one.fingerprint for (asset, key), one in commits.items()}  # type: ignore[attr-defined]


def at_work(instance: dg.DagsterInstance) -> list[str]:
    runs = (run for run in instance.get_runs() if not run.is_finished)
    return [f"{run.run_id} {run.status.value} {run.tags}" for run in runs]


@pytest.mark.parametrize(
    ("files", "often"),
    [
        pytest.param(generated(3), 4, id="short"),
        pytest.param(generated(8), 16, id="long"),
        pytest.param(real(12) if REAL_FILES.is_dir() else {}, 12, id="real", marks=needs_real_files),
    ],
)
def test_a_cluster_that_loses_workers_servers_and_answers_ends_as_one_machine_does(
    files: dict[str, str], often: int, server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if FAKETIME is None:
        pytest.skip("needs faketime (Debian's package)")
    monkeypatch.setenv("ETL_START_DATE", min(files).removesuffix(".csv"))
    alone = Place(tmp_path / "alone")
    warehouse, lake = postgres.url_of(tmp_path), s3.url_of(tmp_path)
    more = {"ETL_WAREHOUSE": warehouse, "ETL_WAREHOUSE_DATA": f"{lake}-tables", "ETL_LAKE": lake}
    more |= {"ETL_DAYS_PER_RUN": "1", "ETL_LOCKS_LEASE_SECONDS": str(LEASE_SECONDS)}
    with s3_proxy.running(monkeypatch) as proxy:
        machines = cluster.on_servers(tmp_path, Database.of(tmp_path).url, instance=instance_of_three(), **more)
        for name, text in files.items():
            for place in (alone, machines.place):
                place.drop(name, text)
        alone.drained()
        tables = {key: print_ for key, (_, print_, _) in alone.last_commits().items()}
        raw = prints(ParquetStore(alone.data / "lake").last_commits())
        store = DuckLakeStore(warehouse, f"{lake}-tables")
        with cluster.running(machines, monkeypatch), machines.instance() as instance, daemon(machines):
            clocks: dict[str, dict[str, str]] = {"worker-1": {}, "worker-2": AHEAD, "worker-3": {}}
            for name, clock in clocks.items():
                machines.worker(name, before=elsewhere(name), **clock)
            assert ahead_seconds() > 60
            for worker in machines.workers:
                brokers.eventually(partial(is_ready, worker), f"{worker.log} says that it is ready")
            flaky(proxy)
            inflict(machines, server, often)

            def done() -> bool:
                quiet = not at_work(instance) and len(proxy.asked) > FEWEST_REQUESTS and not machines.broker.queued()
                return quiet and prints(store.last_commits()) == tables

            try:
                brokers.eventually(done, "every day is built, and no run is left", 1800 + 60 * len(files), pause=1.0)
            except pytest.fail.Exception as late:
                missing = sorted(tables.keys() - prints(store.last_commits()).keys())
                pytest.fail(f"{late}; missing: {missing}; at work: {at_work(instance)}")
            assert prints(s3.lake_of(tmp_path).last_commits()) == raw
            # A kill between a commit and its event leaves the commit alone. The repair tells Dagster of it, and mends
            # nothing else: whatever else is found is found by the second look as well.
            machines.place.etl("verify", "--repair", **machines.settings)
            verified = machines.place.etl("verify", **machines.settings)
            assert verified.returncode == 0, verified.stdout + verified.stderr
