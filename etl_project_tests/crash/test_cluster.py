"""Everything at once: a daemon, three workers, a DuckLake, raw files in a bucket, locks on a server, and faults.

A machine here is a process group with temporary files of its own; one of them has a clock that is two minutes ahead.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import count
from pathlib import Path

import pytest

from etl_project.storage import ParquetStore
from etl_project.storage.engines.ducklake.engine import DuckLakeStore
from etl_project_tests import cluster, postgres, s3, s3_proxy
from etl_project_tests.cluster import Cluster, Worker
from etl_project_tests.crash.locks.places import Database
from etl_project_tests.deployments import REAL_FILES, ROOT, Place, needs_real_files, order_file

pytestmark = [postgres.needed, s3.needed, cluster.needed, pytest.mark.stress, pytest.mark.timeout(5400)]

AHEAD = ("faketime", "-f", "+2m")
SECONDS_BETWEEN_FAULTS = 12.0
MOST_FAULTY_REQUESTS = 60


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
        return s3_proxy.CUT_BEFORE if n % 29 == 0 else s3_proxy.CUT_AFTER if n % 37 == 0 else None

    proxy.plan = plan


@contextmanager
def daemon(machines: Cluster) -> Iterator[None]:
    """Dagster's daemon, the only one of the deployment."""
    with (machines.home / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "dagster-daemon"), "run", "-w", "workspace.yaml"],
            env=machines.environment(),
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def faults(machines: Cluster, often: int) -> Iterator[None]:
    """Every few seconds a worker is killed and replaced, one is stopped and continued, or the broker is restarted."""
    over = threading.Event()

    def go_on() -> None:
        names = count(4)
        for turn in range(often):
            if over.wait(SECONDS_BETWEEN_FAULTS):
                return
            worker: Worker = machines.workers[-1 - turn % 3]
            if turn % 3 == 1:
                worker.signal_group(signal.SIGSTOP)
                over.wait(float(machines.settings["ETL_LOCKS_LEASE_SECONDS"]) * 1.5)
                worker.signal_group(signal.SIGCONT)
            elif turn % 3 == 2:
                machines.redis.kill()
                machines.redis.start()
            else:
                worker.kill()
                machines.worker(f"worker-{next(names)}")

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
        over.set()
    finally:
        over.set()
        thread.join()


def prints(commits: object) -> dict[tuple[str, str], str]:
    return {(str(asset), str(key)): one.fingerprint for (asset, key), one in commits.items()}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("files", "often"),
    [
        pytest.param(generated(3), 3, id="short"),
        pytest.param(generated(8), 15, id="long"),
        pytest.param(real(20) if REAL_FILES.is_dir() else {}, 30, id="real", marks=needs_real_files),
    ],
)
def test_a_cluster_that_loses_workers_broker_and_answers_ends_as_one_machine_does(
    files: dict[str, str], often: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which(AHEAD[0]) is None:
        pytest.skip("needs faketime (Debian's package)")
    alone = Place(tmp_path / "alone")
    warehouse, lake = postgres.url_of(tmp_path), s3.url_of(tmp_path)
    more = {"ETL_WAREHOUSE": warehouse, "ETL_WAREHOUSE_DATA": f"{lake}-tables", "ETL_LAKE": lake}
    with s3_proxy.running(monkeypatch) as proxy:
        machines = cluster.on_servers(tmp_path, Database.of(tmp_path).url, ETL_DAYS_PER_RUN="1", **more)
        for name, text in files.items():
            for place in (alone, machines.place):
                place.drop(name, text)
        alone.drained()
        tables = {key: print_ for key, (_, print_, _) in alone.last_commits().items()}
        raw = prints(ParquetStore(alone.data / "lake").last_commits())
        store = DuckLakeStore(warehouse, f"{lake}-tables")
        with cluster.running(machines, monkeypatch), machines.instance() as instance, daemon(machines):
            for name, before in (("worker-1", ()), ("worker-2", AHEAD), ("worker-3", ())):
                machines.worker(name, before=before)
            flaky(proxy)
            with faults(machines, often):
                time.sleep(SECONDS_BETWEEN_FAULTS * often)

            def done() -> bool:
                return prints(store.last_commits()) == tables and not [
                    r for r in instance.get_runs() if not r.is_finished
                ]

            try:
                cluster.eventually(done, "every day is built, and no run is left", 1200 + 60 * len(files))
            except pytest.fail.Exception as late:
                runs = [f"{run.run_id} {run.status.value} {run.tags}" for run in instance.get_runs()]
                missing = sorted(tables.keys() - prints(store.last_commits()).keys())
                pytest.fail(f"{late}; missing: {missing}; runs: {runs}")
            assert len(proxy.asked) > 37, "every kind of fault of the bucket has been met"
            assert prints(s3.lake_of(tmp_path).last_commits()) == raw
            verified = machines.place.etl("verify", **machines.settings)
            assert verified.returncode == 0, verified.stdout + verified.stderr
            assert machines.redis.queued() == 0
