"""The task lock within one process: what is taken, what a refusal says, what a lease notices."""

from __future__ import annotations

import dataclasses
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from etl_project.exclusion import processes
from etl_project.exclusion.jobs import Holder, Job, Lease, LockBusy, LockLost, Locks, listed
from etl_project.exclusion.locks import TaskLock
from etl_project.failures import Transient
from etl_project_tests.crash.locks.holders import is_free
from etl_project_tests.crash.locks.places import File, Place
from etl_project_tests.unit.exclusion.lock_rows import MONDAY, TUESDAY, WEDNESDAY

HOSTILE = [
    "quote ' and \" and `",
    "semi; DROP TABLE task_lock; --",
    "../../etc/passwd",
    "a/b",
    "a",
    "b/2024",
    'json ["a", "b"]',
    "nul \0 inside",
    "line\nbreak",
    "größe 数据 🦆",
    "lone surrogate \ud800",
    "%s {} ? :1 $1",
    "",
    "x" * 5000,
]


def test_a_taken_job_is_refused_to_another_run_until_it_is_released(lock: Locks) -> None:
    lease = lock.take("one", [MONDAY], 0)
    assert not is_free(lock, MONDAY)
    assert is_free(lock, TUESDAY)
    lease.release()
    assert is_free(lock, MONDAY)


def test_taking_and_releasing_twice_leaves_what_once_leaves(lock: Locks, place: Place) -> None:
    for _ in range(2):
        lease = lock.take("one", [MONDAY, TUESDAY, MONDAY], 0)
        assert len(place.rows()) == 2
        lease.release()
        lease.release()
        assert place.rows() == place.rows("SELECT * FROM task_lock_holder") == []


def test_the_row_of_a_job_says_who_took_it_and_when(lock: Locks, place: Place) -> None:
    me = processes.this_process()
    with lock.take("one", [MONDAY], 0):
        columns = "l.job_id, h.pid, h.host, h.pid_namespace, h.started_at, h.run_id"
        [row] = place.rows(f"SELECT {columns} FROM task_lock l JOIN task_lock_holder h USING (run_id)")
        assert row == ('["orders", "2024-01-01"]', me.pid, me.host, me.pid_namespace, me.started_at, "one")
        [(acquired_at,)] = place.rows("SELECT acquired_at FROM task_lock")
    assert datetime.fromisoformat(str(acquired_at)).utcoffset() == timedelta(0)


def test_the_file_is_in_wal_mode(path: Path) -> None:
    with TaskLock(path).take("one", [MONDAY], 0):
        assert File(path).rows("PRAGMA journal_mode") == [("wal",)]


def test_a_refusal_names_the_job_the_run_the_process_and_the_time(lock: Locks, place: Place) -> None:
    with lock.take("first run", [MONDAY, TUESDAY], 0):
        [(since,)] = place.rows("SELECT acquired_at FROM task_lock_holder")
        with pytest.raises(LockBusy) as refusal:
            lock.take("second run", [WEDNESDAY, TUESDAY, MONDAY], 0)
    process = processes.this_process().pid
    said = str(refusal.value)
    assert f'["orders", "2024-01-01"] and 1 more held by run first run (process {process}' in said
    assert f", since {since})" in said
    assert "second run" in str(refusal.value)
    assert isinstance(refusal.value, Transient)


def test_a_refused_run_keeps_nothing(lock: Locks, place: Place) -> None:
    with lock.take("one", [TUESDAY], 0):
        before = place.rows(), place.rows("SELECT * FROM task_lock_holder")
        for _ in range(2):
            with pytest.raises(LockBusy):
                lock.take("two", [MONDAY, TUESDAY, WEDNESDAY], 0)
        assert (place.rows(), place.rows("SELECT * FROM task_lock_holder")) == before
        assert is_free(lock, MONDAY, WEDNESDAY)


def test_a_waiting_run_says_once_for_whom_and_how_long(lock: Locks) -> None:
    said: list[str] = []
    with lock.take("one", [MONDAY], 0), pytest.raises(LockBusy, match=r"Run two waited 0\.2 s\."):
        lock.take("two", [MONDAY], 0.2, said.append)
    [message] = said
    assert message.startswith("Run two waits up to 0.2 s.")
    assert "held by run one" in message


def test_a_run_takes_its_own_jobs_again_and_frees_them_with_the_last_lease(lock: Locks) -> None:
    first = lock.take("one", [MONDAY], 0)
    second = lock.take("one", [MONDAY, TUESDAY], 0)
    first.release()
    assert not is_free(lock, MONDAY)
    second.check()
    second.release()
    assert is_free(lock, MONDAY, TUESDAY)


def test_a_run_that_takes_a_job_again_keeps_its_generation(lock: Locks, place: Place) -> None:
    with lock.take("one", [MONDAY], 0) as first:
        before = place.rows()
        with lock.take("one", [MONDAY], 0) as second:
            assert place.rows() == before
            first.check()
            second.check()


def test_a_taker_always_has_a_higher_generation_than_any_former_holder(lock: Locks, place: Place) -> None:
    generations = []
    for run in ("one", "two", "one", "three"):
        with lock.take(run, [MONDAY], 0), lock.take("beside", [TUESDAY], 0):
            [(generation,)] = place.rows(f"SELECT generation FROM task_lock WHERE run_id = '{run}'")
            generations.append(generation)
    # A run whose share in one job is old does not get an old generation for a job that was with others meanwhile.
    with lock.take("old", [TUESDAY], 0):
        lock.take("young", [MONDAY], 0).release()
        with lock.take("old", [MONDAY], 0):
            generations += [row[2] for row in place.rows() if row[0] == '["orders", "2024-01-01"]']
    assert generations == sorted(set(generations))
    assert generations[-1] > generations[-2] + 2


def test_a_body_that_raises_releases_its_jobs(lock: Locks) -> None:
    with pytest.raises(ZeroDivisionError), lock.take("one", [MONDAY], 0):
        _ = 1 / 0
    assert is_free(lock, MONDAY)


def test_no_jobs_and_thousands_of_jobs_are_both_taken_whole(lock: Locks, place: Place) -> None:
    many = [(f"asset {n % 7}", f"day {n // 7}") for n in range(1400)]
    with lock.take("none", [], 0) as nothing, lock.take("many", many, 0) as lease:
        nothing.check()
        lease.check()
        assert len(place.rows()) == 1400
        assert not is_free(lock, many[-1])
    assert place.rows() == []


def test_an_unpartitioned_asset_is_a_job_of_its_own(lock: Locks) -> None:
    with lock.take("one", [("orders", None)], 0) as lease:
        assert not is_free(lock, ("orders", None))
        assert is_free(lock, ("orders", ""), ("orders", "None"), ("orders", "null"))
        lease.check()


def test_hostile_names_are_all_different_jobs(lock: Locks, place: Place) -> None:
    jobs: list[Job] = [(asset, partition) for asset in HOSTILE for partition in [*HOSTILE, None]]
    with lock.take("one", jobs, 0) as lease:
        assert len(place.rows()) == len(jobs)
        lease.check()
        assert not any(is_free(lock, job) for job in jobs[:: len(HOSTILE)])
    assert is_free(lock, *jobs)


@pytest.mark.parametrize("run_id", HOSTILE[:12:3])
def test_a_hostile_run_id_is_only_a_name(lock: Locks, run_id: str) -> None:
    with lock.take(run_id, [MONDAY], 0) as lease:
        lease.check()
        assert not is_free(lock, MONDAY)
    assert is_free(lock, MONDAY)


def test_a_hostile_path_is_only_a_path(tmp_path: Path) -> None:
    path = tmp_path / "what? #1 100% 'data' größe" / "sqlite_file.sqlite"
    with TaskLock(path).take("one", [MONDAY], 0) as lease:
        lease.check()
        assert {file.name for file in path.parent.iterdir()} >= {"sqlite_file.sqlite", "sqlite_file.sqlite-host"}


def test_a_run_that_has_ended_loses_its_jobs_at_once(place: Place) -> None:
    ended: set[str] = set()
    lock = place.locks(ended.__contains__)
    stale = lock.take("one", [MONDAY, TUESDAY], 0)
    ended.add("somebody else")
    assert not is_free(lock, MONDAY)
    ended.add("one")
    with lock.take("two", [MONDAY], 0) as lease:
        lease.check()
        with pytest.raises(LockLost, match="held by run two"):
            stale.check()
        stale.release()
        lease.check()
        assert not is_free(place.locks(), MONDAY)


def test_a_dead_process_is_named_once_however_often_it_took_its_jobs(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    lock = place.locks(lambda run_id: run_id == "one")
    for _ in range(4):  # As every IO manager of a run does.
        lock.take("one", [MONDAY], 0)
    with lock.take("two", [MONDAY], 0):
        assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["Run one is dead"]


def test_a_process_that_joins_a_run_just_judged_ended_keeps_its_jobs(place: Place) -> None:
    joined: list[Lease] = []

    def ended(run_id: str) -> bool:
        if joined:
            return False
        joined.append(place.locks().take("one", [MONDAY], 0))  # The run is resumed in this very moment.
        return True

    lock = place.locks(ended)
    lock.take("one", [MONDAY], 0)
    with pytest.raises(LockBusy):
        lock.take("two", [MONDAY], 0)
    joined[0].check()


def test_nobody_is_asked_whether_a_run_ended_while_others_are_kept_out(place: Place) -> None:
    def ended(run_id: str) -> bool:
        place.change("UPDATE task_lock SET acquired_at = acquired_at")  # Fails if a transaction were open.
        place.locks().take("three", [TUESDAY], 0).release()
        return True

    state_lock = place.locks(ended)
    state_lock.take("one", [MONDAY], 0)
    state_lock.take("two", [MONDAY], 0).release()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE task_lock SET generation = generation + 1",
        "UPDATE task_lock SET run_id = 'another'",
        "DELETE FROM task_lock WHERE job_id LIKE '%02%'",
        "DELETE FROM task_lock",
    ],
)
def test_a_lease_whose_row_changed_must_not_commit(lock: Locks, place: Place, sql: str) -> None:
    with lock.take("one", [MONDAY, TUESDAY], 0) as lease:
        place.change(sql)
        with pytest.raises(LockLost, match=r"2024-01-02.*retrying helps"):
            lease.check([TUESDAY])


def test_a_job_that_was_never_taken_is_not_held(lock: Locks) -> None:
    with lock.take("one", [MONDAY], 0) as lease:
        lease.check([MONDAY])
        with pytest.raises(LockLost):
            lease.check([MONDAY, TUESDAY])


def test_a_released_lease_must_not_commit_even_if_its_run_holds_the_job_again(lock: Locks) -> None:
    old = lock.take("one", [MONDAY], 0)
    old.release()
    with pytest.raises(LockLost):
        old.check()
    with lock.take("one", [MONDAY], 0), pytest.raises(LockLost):
        old.check()


def test_only_its_own_lease_releases_a_job(lock: Locks) -> None:
    old = lock.take("one", [MONDAY], 0)
    old.release()
    with lock.take("one", [MONDAY], 0) as lease:
        old._may_be_recorded = True
        old.release()
        lease.check()


def test_a_pickled_lock_is_the_same_lock(lock: Locks) -> None:
    with lock.take("one", [MONDAY], 0):
        assert not is_free(pickle.loads(pickle.dumps(lock)), MONDAY)


def test_threads_of_one_process_exclude_each_other_by_run(lock: Locks) -> None:
    inside: list[str] = []
    overlaps: list[list[str]] = []

    def work(run_id: str) -> None:
        for _ in range(5):
            with lock.take(run_id, [MONDAY, TUESDAY], 60) as lease:
                inside.append(run_id)
                lease.check()
                overlaps.extend([list(inside)] if len(inside) > 1 else [])
                inside.remove(run_id)

    threads = [threading.Thread(target=work, args=(f"run {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == []
    assert is_free(lock, MONDAY, TUESDAY)


def test_one_lease_serves_several_threads(lock: Locks) -> None:
    def work(lease: Lease) -> None:
        for _ in range(20):
            lease.check()

    with lock.take("one", [MONDAY], 0) as lease, ThreadPoolExecutor(4) as threads:
        for result in [threads.submit(work, lease) for _ in range(4)]:
            result.result()


def test_a_taker_keeps_no_descriptor_open(lock: Locks) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with lock.take("one", [MONDAY], 0):
        before = count()
        for _ in range(5):
            with pytest.raises(LockBusy):
                lock.take("two", [MONDAY], 0)
            lock.take("two", [TUESDAY], 0).release()
        assert count() == before


def test_owners_that_differ_in_anything_are_different() -> None:
    me = processes.this_process()
    assert len({me, *(dataclasses.replace(me, **{f.name: "x"}) for f in dataclasses.fields(me))}) == 5


def test_a_process_that_took_its_jobs_for_several_io_managers_is_named_once() -> None:
    me, times = processes.this_process(), ("08:00", "08:01", "08:02", "08:03")
    same = [Holder(f"token {time}", "a run", time, me, "orders", 7) for time in times]
    other = dataclasses.replace(me, pid=1)
    named = listed([*same, Holder("another", "a run", "09:00", other, "orders", 7)])
    assert named == (
        f"orders and 6 more held by run a run (process {me.pid}, since 08:00); "
        "orders and 6 more held by run a run (process 1, since 09:00)"
    )
