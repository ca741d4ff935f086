"""Being stopped: `etl drain` and runs of `dagster dev` end within seconds of a signal, and nothing is lost by it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import dagster as dg
import duckdb
import psutil
import pytest

from etl_project import instance as instances
from etl_project.exclusion.locks import TaskLock
from etl_project.failures import FAILURE_TAG
from etl_project.storage.interrupted import ended_at_once
from etl_project_tests import steady
from etl_project_tests.deployments import ROOT

SECONDS_TO_STOP = 120
"""On a busy machine; on a quiet one it takes one. What is waited for below would take longer than any of this."""

ASSETS = """
import os, time
from pathlib import Path
from etl_project.declare import daily_table
from etl_project.storage import Slice, Sql

MODE = Path(os.environ["ETL_DATA_DIR"], "mode")
SLOW = (
    "SELECT batch_date, sum(a.range * b.range)::BIGINT AS n "
    "FROM visits, range(1000000) a, range(1000000) b GROUP BY 1"
)

@daily_table(Path(__file__).parent)
def doubled(visits: Slice) -> Sql:
    mode = MODE.read_text()
    MODE.with_name("reached").touch()
    if mode == "sleep":
        time.sleep(600)
    return Sql(SLOW if mode == "query" else "SELECT batch_date, id * 2 AS n FROM visits", visits=visits)

@daily_table(Path(__file__).parent)
def counted(visits: Slice) -> Sql:
    # Depends on nothing of the above, and must not be begun after the signal.
    return Sql("SELECT batch_date, count(*) AS n FROM visits GROUP BY ALL", visits=visits)
"""
CONTRACT = """
CREATE TABLE visits (batch_date DATE NOT NULL, id BIGINT NOT NULL);
CREATE TABLE doubled (batch_date DATE NOT NULL, n BIGINT);
CREATE TABLE counted (batch_date DATE NOT NULL, n BIGINT);
"""
DEFS = """
type: etl_project.sources.component.FileSource
attributes: {name: visits, patterns: ["{date}.csv"], columns: {id: id}}
"""


class Small:
    """A project of one source and two tables, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        pipeline = folder / "stop_pipelines" / "visits"
        pipeline.mkdir(parents=True)
        (pipeline.parent / "__init__.py").touch()
        (pipeline / "__init__.py").touch()
        (pipeline / "defs.yaml").write_text(DEFS)
        (pipeline / "contract.sql").write_text(CONTRACT)
        (pipeline / "assets.py").write_text(ASSETS)
        incoming = self.data / "incoming" / "visits"
        incoming.mkdir(parents=True)
        for day in (19, 20):
            (incoming / f"2025-03-{day}.csv").write_text(f"id\n{day}\n2\n")

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in ("DAGSTER_HOME", "ETL_FAULT")}
        own = {"ETL_DATA_DIR": str(self.data), "ETL_PIPELINES": "stop_pipelines", "PYTHONPATH": str(self.folder)}
        return {**inherited, **own, "ETL_SETTLE_SECONDS": "0", "ETL_WAIT_SECONDS": "600"}

    def drain(self, mode: str) -> subprocess.Popen[str]:
        (self.data / "mode").write_text(mode)
        (self.data / "reached").unlink(missing_ok=True)
        command = [sys.executable, "-m", "etl_project.cli", "drain"]
        return subprocess.Popen(
            command, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with duckdb.connect(str(self.data / "warehouse.duckdb"), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def runs(self, monkeypatch: pytest.MonkeyPatch) -> list[dg.DagsterRun]:
        monkeypatch.setenv("ETL_DATA_DIR", str(self.data))
        with instances.opened() as instance:
            return list(instance.get_runs())

    def locks(self) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.data / "state.sqlite")) as db:
            return db.execute("select run_id from task_lock").fetchall()


def until(met: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + steady.PATIENCE_SECONDS
    while not met():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "never came so far"
        time.sleep(0.05)


def stopped(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    process.send_signal(number)
    try:
        output, _ = process.communicate(timeout=SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"did not stop within {SECONDS_TO_STOP} s:\n{process.communicate()[0]}")
    return process.returncode, output


@pytest.mark.parametrize(
    ("number", "at"),
    [
        (signal.SIGTERM, "query"),
        pytest.param(signal.SIGINT, "sleep", marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, "lock", marks=pytest.mark.long),
    ],
    ids=str,
)
def test_a_drain_ends_within_seconds_of_a_signal_and_the_next_one_goes_on(
    number: int, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Small(tmp_path)
    with ExitStack() as held:
        if at == "lock":
            jobs = [("counted", f"2025-03-{day}") for day in (19, 20)]
            held.enter_context(TaskLock(small.data / "state.sqlite").take("another run", jobs, 0))
        drain = small.drain(at)
        if at == "lock":
            until(lambda: [run for run in small.runs(monkeypatch) if run.status is dg.DagsterRunStatus.STARTED], drain)
            time.sleep(0.5)
        else:
            until((small.data / "reached").exists, drain)
            time.sleep(1 if at == "query" else 0)
        code, output = stopped(drain, number)
    assert code == 128 + number, output
    assert f"stopped by {signal.Signals(number).name}" in output and "Traceback" not in output, output
    [run] = small.runs(monkeypatch)
    assert run.status is dg.DagsterRunStatus.CANCELED and FAILURE_TAG not in run.tags
    assert small.locks() == []
    again = small.drain("")
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0 and output.count("building ") == 1, f"the range is tried as a whole again: {output}"
    assert small.query("select n from doubled order by all") == [(4,), (4,), (38,), (40,)]
    assert small.query("select n from counted") == [(2,), (2,)]
    assert small.locks() == []


@pytest.mark.long
def test_ctrl_c_ends_dagster_dev_and_the_run_it_is_at_within_seconds(tmp_path: Path) -> None:
    small = Small(tmp_path)
    (small.data / "mode").write_text("query")
    log = (tmp_path / "log").open("w+")
    command = [sys.executable, "-m", "dagster", "dev", "--port", str(steady.ports())]
    dev = subprocess.Popen(
        command, cwd=ROOT, env=small.environment(), stdout=log, stderr=log, text=True, start_new_session=True
    )
    try:
        until((small.data / "reached").exists, dev)
        time.sleep(1)
        everybody = psutil.Process(dev.pid).children(recursive=True)
        os.killpg(dev.pid, signal.SIGINT)
        dev.wait(SECONDS_TO_STOP)
        _, alive = psutil.wait_procs(everybody, SECONDS_TO_STOP)
        assert not alive, (tmp_path / "log").read_text()[-3000:]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(dev.pid, signal.SIGKILL)
    again = small.drain("")
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    assert small.query("select n from doubled order by all") == [(4,), (4,), (38,), (40,)]


def test_a_statement_that_a_signal_breaks_off_leaves_a_connection_that_can_be_closed_at_once() -> None:
    class Asked(BaseException):
        pass

    def ask(*_: object) -> None:
        raise Asked

    former = signal.signal(signal.SIGALRM, ask)
    began = time.monotonic()
    try:
        with (
            pytest.raises(Asked),
            closing(duckdb.connect(config={"threads": 4})) as connection,
            ended_at_once(connection),
        ):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            connection.execute("select sum(a.range * b.range) from range(1000000) a, range(1000000) b")
    finally:
        signal.signal(signal.SIGALRM, former)
    assert time.monotonic() - began < SECONDS_TO_STOP
