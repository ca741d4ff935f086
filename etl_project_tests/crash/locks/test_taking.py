"""The task lock between real processes: waiting, SIGKILL at every step, forks and spawns."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from etl_project.exclusion.jobs import Job, Locks
from etl_project.exclusion.processes import this_process
from etl_project.failures import EtlError
from etl_project_tests.crash.locks.holders import MANY, MONDAY, SPAWN, TUESDAY, Child, holding, is_free
from etl_project_tests.crash.locks.places import File, Place


def test_a_second_process_waits_for_the_first_and_then_gets_the_job(place: Place, start: Callable[..., Child]) -> None:
    first = start(holding(place, "one", [MONDAY]))
    assert first.says() == "held"
    second = start(holding(place, "two", [TUESDAY, MONDAY]))
    waiting = str(second.says())
    assert waiting.startswith("waits: Run two waits up to 30 s.")
    assert f"held by run one (process {first.process.pid}" in waiting
    first.tell("release")
    assert first.says() == "released"
    assert second.says() == "held"


def test_a_process_that_waited_in_vain_says_for_whom(place: Place, start: Callable[..., Child]) -> None:
    first = start(holding(place, "one", [MONDAY]))
    assert first.says() == "held"
    second = start(holding(place, "two", [MONDAY], wait_seconds=0.2))
    second.says()
    assert f"Run two waited 0.2 s. {list(MONDAY)}".replace("'", '"') in (busy := str(second.says()))
    assert f"held by run one (process {first.process.pid}" in busy
    assert "retrying helps" in busy


def test_a_killed_holder_loses_its_jobs_at_once(place: Place, lock: Locks, start: Callable[..., Child]) -> None:
    for _ in range(2):
        holder = start(holding(place, "one", MANY))
        assert holder.says() == "held"
        assert not is_free(lock, MANY[0])
        holder.kill()
        lock.take("two", MANY, 0).release()
        assert place.count("one") == place.count("two") == 0


def test_a_holder_that_was_taken_over_must_not_commit(place: Place, lock: Locks, start: Callable[..., Child]) -> None:
    holder = start(holding(place, "one", [MONDAY]))
    assert holder.says() == "held"
    holder.tell("check")
    assert holder.says() == "still held"
    place.change("UPDATE task_lock_holder SET started_at = '1'")  # Its pid now looks like somebody else's.
    with lock.take("two", [MONDAY], 0) as lease:
        holder.tell("stale")
        assert str(holder.says()).startswith("stale: Run one no longer holds")
        holder.tell("release")
        assert holder.says() == "released"
        lease.check()
        assert not is_free(lock, MONDAY)


def test_a_stopped_process_is_alive_and_keeps_its_jobs(place: Place, lock: Locks, start: Callable[..., Child]) -> None:
    holder = start(holding(place, "one", [MONDAY]))
    assert holder.says() == "held"
    assert holder.process.pid is not None
    os.kill(holder.process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, holder.process.pid, os.WSTOPPED)
    assert not is_free(lock, MONDAY)


def test_a_run_keeps_its_jobs_while_one_of_its_processes_lives(
    place: Place, lock: Locks, start: Callable[..., Child]
) -> None:
    steps = [start(holding(place, "one", MANY)) for _ in range(3)]
    assert [step.says() for step in steps] == ["held"] * 3
    steps[0].kill()
    assert not is_free(lock, MANY[-1])
    steps[1].tell("release")
    assert steps[1].says() == "released"
    assert not is_free(lock, MANY[-1])
    steps[2].tell("check")
    assert steps[2].says() == "still held"
    steps[2].tell("release")
    assert steps[2].says() == "released"
    assert place.count("one") == 0  # Though the killed step never released.


def test_a_run_whose_processes_are_all_killed_holds_nothing(
    place: Place, lock: Locks, start: Callable[..., Child]
) -> None:
    steps = [start(holding(place, "one", MANY)) for _ in range(2)]
    assert [step.says() for step in steps] == ["held"] * 2
    for step in steps:
        assert not is_free(lock, MANY[0])
        step.kill()
    assert is_free(lock, *MANY)


@pytest.mark.parametrize(("step", "left"), [("locks.before_commit", 0), ("locks.after_commit", len(MANY))])
def test_a_kill_while_taking_leaves_all_or_none_and_the_next_taker_gets_all(
    place: Place, lock: Locks, start: Callable[..., Child], step: str, left: int
) -> None:
    lock.take("before", MANY[:1], 0).release()
    for _ in range(2):
        taker = start(holding(place, "one", MANY), ETL_FAULT=f"{step}=kill")
        assert taker.exit_code() == -signal.SIGKILL
        assert place.count("one") == left
        with lock.take("two", MANY, 0) as lease:
            lease.check()
            assert (place.count("one"), place.count("two")) == (0, len(MANY))


def test_a_kill_in_the_very_first_take_leaves_tables_that_work(
    place: Place, lock: Locks, start: Callable[..., Child]
) -> None:
    assert start(holding(place, "one", MANY), ETL_FAULT="locks.before_commit=kill").exit_code() == -signal.SIGKILL
    lock.take("two", MANY, 0).release()


def test_a_kill_while_releasing_leaves_the_jobs_to_the_next_taker(
    place: Place, lock: Locks, start: Callable[..., Child]
) -> None:
    for _ in range(2):
        holder = start(holding(place, "one", MANY), ETL_FAULT="locks.before_release=kill")
        assert holder.says() == "held"
        holder.tell("release")
        assert holder.exit_code() == -signal.SIGKILL
        assert place.count("one") == len(MANY)
        lock.take("two", MANY, 0).release()


@pytest.mark.parametrize("kind", ["error", "full"])
@pytest.mark.parametrize("step", ["locks.before_commit", "locks.after_commit"])
def test_an_error_while_taking_leaves_nothing_taken_though_the_process_lives(
    place: Place, lock: Locks, start: Callable[..., Child], step: str, kind: str
) -> None:
    def work(pipe: Connection) -> None:
        for _ in range(2):  # Only the first time is armed.
            try:
                place.locks().take("one", MANY, 0).release()
                pipe.send("taken")
            except EtlError as error:
                pipe.send(type(error).__name__)
        pipe.recv()

    child = start(work, ETL_FAULT=f"{step}={kind}")
    assert [child.says(), child.says()] in (["StateUnavailable", "taken"], ["LocksUnavailable", "taken"])
    lock.take("two", MANY, 0).release()


def test_a_forked_child_neither_holds_nor_releases_what_its_parent_took(
    place: Place, lock: Locks, start: Callable[..., Child]
) -> None:
    lease = lock.take("one", [MONDAY], 0)

    def work(pipe: Connection) -> None:
        lease.check()
        lease.release()
        pipe.send("left")
        pipe.recv()

    child = start(work)
    assert child.says() == "left"
    lease.check()
    assert not is_free(lock, MONDAY)
    if isinstance(place, File):
        with Path(f"{place.path}-host").open() as host_file, pytest.raises(BlockingIOError):
            fcntl.flock(host_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lease.release()
    assert is_free(lock, MONDAY)  # The child still lives.


def hold_in_a_spawned_process(lock: Locks, pipe: Connection) -> None:
    with lock.take("one", [MONDAY], 0):
        pipe.send(this_process().pid)
        pipe.recv()


def test_a_spawned_process_shares_the_jobs_of_its_run(lock: Locks) -> None:
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=hold_in_a_spawned_process, args=(lock, theirs))
    with lock.take("one", [MONDAY], 0):
        process.start()
        assert ours.recv() == process.pid
    assert not is_free(lock, MONDAY)
    process.kill()
    process.join()
    assert is_free(lock, MONDAY)


def test_two_runs_that_ask_for_the_same_jobs_in_another_order_both_get_through(
    place: Place, start: Callable[..., Child]
) -> None:
    def rounds(run_id: str, jobs: list[Job]) -> Callable[[Connection], None]:
        def work(pipe: Connection) -> None:
            for _ in range(20 if isinstance(place, File) else 5):
                with place.locks().take(run_id, jobs, 60) as lease:
                    lease.check()
            pipe.send("done")

        return work

    children = [
        start(rounds("one", [MONDAY, TUESDAY, *MANY])),
        start(rounds("two", [*reversed(MANY), TUESDAY, MONDAY])),
    ]
    assert [child.says() for child in children] == ["done", "done"]
