"""The run's lock around real runs: both executors, two runs that meet, a step process killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from datetime import date
from importlib import import_module
from itertools import count
from pathlib import Path

import duckdb
import pytest

from etl_project.exclusion.jobs import LockBusy
from etl_project.exclusion.locks import TaskLock
from etl_project.failures import FAILURE_TAG
from etl_project_tests import postgres
from etl_project_tests.crash.locks.places import Database
from etl_project_tests.forks import FORKS
from etl_project_tests.steady import PATIENCE_SECONDS

EXECUTORS = ["in_process", pytest.param("multiprocess", marks=pytest.mark.long)]
DAYS = ("2025-03-03", "2025-03-05")
COUNT = count()


class Forked:
    """A run in a process of its own, forked; what is asked of it is asked as of a `subprocess.Popen`."""

    def __init__(self, environment: dict[str, str], days: tuple[str, str], printed: Path) -> None:
        self._printed = printed
        self._process = FORKS.Process(target=_run, args=(environment, days, printed))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def communicate(self) -> tuple[str, None]:
        self.wait()
        return self._printed.read_text(), None


def _run(environment: dict[str, str], days: tuple[str, str], printed: Path) -> None:
    out = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.clear()
    os.environ.update(environment)
    warnings.simplefilter("ignore")
    sys.argv = ["locked_project", *days]
    sys.exit(import_module("etl_project_tests.crash.locked_project").main())


Run = Forked | subprocess.Popen[str]


def start(data: Path, executor: str, days: tuple[str, str] = DAYS, **more: str) -> Run:
    environment = {**os.environ, "LOCKED_DATA": str(data), "EXECUTOR": executor, **more}
    environment.pop("DAGSTER_HOME", None)
    if executor == "in_process":
        return Forked(environment, days, data / f"printed-{next(COUNT)}")
    command = [sys.executable, "-W", "ignore", "-m", "etl_project_tests.crash.locked_project", *days]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def reached(data: Path, process: Run) -> None:
    """Wait until the second asset's body is at work."""
    while not (data / "reached").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def stored(data: Path) -> list[tuple[object, ...]]:
    with duckdb.connect(str(data / "w.duckdb"), read_only=True) as connection:
        return connection.execute("select batch_date::varchar, n from second order by 1").fetchall()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_while_a_run_is_at_work_nobody_else_gets_any_of_its_days(executor: str, tmp_path: Path) -> None:
    (tmp_path / "told").write_text("wait")
    process = start(tmp_path, executor)
    reached(tmp_path, process)
    lock = TaskLock(tmp_path / "state.sqlite")
    for asset in ("first", "second"):
        for day in ("2025-03-03", "2025-03-04", "2025-03-05"):
            with pytest.raises(LockBusy, match=asset):
                lock.take("another run", [(asset, day)], 0)
    with lock.take("another run", [("second", "2025-03-06"), ("third", "2025-03-03")], 0):
        pass
    (tmp_path / "told").unlink()
    output, _ = process.communicate()
    assert process.returncode == 0, output
    with lock.take("another run", [("first", "2025-03-03"), ("second", "2025-03-05")], 0):
        pass
    assert len(stored(tmp_path)) == 3


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_run_that_waits_in_vain_fails_as_retryable_and_names_the_holder(executor: str, tmp_path: Path) -> None:
    (tmp_path / "told").write_text("wait")
    holder = start(tmp_path, executor)
    reached(tmp_path, holder)
    other = start(tmp_path, executor, ("2025-03-05", "2025-03-09"))
    output, _ = other.communicate()
    assert other.returncode == 1
    assert "2025-03-05" in output and "etrying helps" in output, output
    (tmp_path / "told").unlink()
    assert holder.wait() == 0
    again = start(tmp_path, executor, ("2025-03-05", "2025-03-09"))
    output, _ = again.communicate()
    assert again.returncode == 0, output
    assert len(stored(tmp_path)) == 7


def test_a_run_that_meets_another_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "told").write_text("wait")
    holder = start(tmp_path, "in_process")
    reached(tmp_path, holder)
    other = start(tmp_path, "in_process", LOCK_WAIT=str(PATIENCE_SECONDS))
    time.sleep(1)
    assert other.poll() is None
    (tmp_path / "told").unlink()
    assert (holder.wait(), other.wait()) == (0, 0)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_killed_process_frees_its_days_at_once(executor: str, tmp_path: Path) -> None:
    (tmp_path / "told").write_text("die")
    killed = start(tmp_path, executor)
    output, _ = killed.communicate()
    assert killed.returncode != 0, output
    again = start(tmp_path, executor)
    output, _ = again.communicate()
    assert again.returncode == 0, output
    assert stored(tmp_path) == [(str(date(2025, 3, day)), 1) for day in (3, 4, 5)]


@postgres.needed
def test_a_run_that_was_stopped_past_its_lease_on_a_server_changes_nothing_when_it_goes_on(tmp_path: Path) -> None:
    there = Database.of(tmp_path / "locks")
    told = {"LOCKS": there.url, "LEASE": "6"}
    (tmp_path / "told").write_text("wait")
    stopped = start(tmp_path, "in_process", **told)
    reached(tmp_path, stopped)
    with pytest.raises(LockBusy, match="second"):
        there.locks().take("another run", [("second", DAYS[0])], 0)
    os.kill(stopped.pid, signal.SIGSTOP)
    with there.locks().take("another run", [("second", DAYS[0])], 60) as lease:
        os.kill(stopped.pid, signal.SIGCONT)
        (tmp_path / "told").unlink()
        output, _ = stopped.communicate()
        assert stopped.returncode == 1 and "no longer holds" in output, output
        lease.check()
    with duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True) as connection:
        assert connection.execute("select count(*) from etl_commits where asset = 'second'").fetchall() == [(0,)]
    again = start(tmp_path, "in_process", **told)
    output, _ = again.communicate()
    assert again.returncode == 0, output
    assert len(stored(tmp_path)) == 3
    assert not (tmp_path / "state.sqlite").exists()


def test_the_failure_is_tagged_so_that_it_is_asked_for_again() -> None:
    assert LockBusy("").retryable and FAILURE_TAG == "etl/failure"
