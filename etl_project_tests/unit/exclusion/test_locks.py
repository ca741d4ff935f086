"""The task lock within one process: what is taken, what a refusal says, what a lease notices."""

from __future__ import annotations

import dataclasses
import fcntl
import pickle
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from etl_project.exclusion import processes, sqlite_file
from etl_project.exclusion.locks import Job, Lease, LockBusy, LockLost, TaskLock, WrongHost
from etl_project.failures import Permanent, Transient

MONDAY, TUESDAY, WEDNESDAY = [("orders", f"2024-01-0{day}") for day in (1, 2, 3)]

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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sqlite_file.sqlite"


@pytest.fixture
def lock(path: Path) -> TaskLock:
    return TaskLock(path)


def rows(
    path: Path, sql: str = "SELECT job_id, run_id, generation FROM task_lock ORDER BY 1"
) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def change(path: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql, values)


def is_free(lock: TaskLock, *jobs: Job) -> bool:
    try:
        lock.take("probe", jobs, 0).release()
    except LockBusy:
        return False
    return True


def test_a_taken_job_is_refused_to_another_run_until_it_is_released(lock: TaskLock) -> None:
    lease = lock.take("one", [MONDAY], 0)
    assert not is_free(lock, MONDAY)
    assert is_free(lock, TUESDAY)
    lease.release()
    assert is_free(lock, MONDAY)


def test_taking_and_releasing_twice_leaves_what_once_leaves(lock: TaskLock, path: Path) -> None:
    for _ in range(2):
        lease = lock.take("one", [MONDAY, TUESDAY, MONDAY], 0)
        assert len(rows(path)) == 2
        lease.release()
        lease.release()
        assert rows(path) == rows(path, "SELECT * FROM task_lock_holder") == []


def test_the_row_of_a_job_says_who_took_it_and_when(lock: TaskLock, path: Path) -> None:
    me = processes.this_process()
    with lock.take("one", [MONDAY], 0):
        columns = "job_id, pid, host, pid_namespace, started_at, run_id"
        [row] = rows(path, f"SELECT {columns} FROM task_lock")
        assert row == ('["orders", "2024-01-01"]', me.pid, me.host, me.pid_namespace, me.started_at, "one")
        [(acquired_at,)] = rows(path, "SELECT acquired_at FROM task_lock")
    assert datetime.fromisoformat(str(acquired_at)).utcoffset() == timedelta(0)


def test_the_file_is_in_wal_mode(lock: TaskLock, path: Path) -> None:
    with lock.take("one", [MONDAY], 0):
        assert rows(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_refusal_names_the_job_the_run_the_process_and_the_time(lock: TaskLock, path: Path) -> None:
    with lock.take("first run", [MONDAY, TUESDAY], 0):
        [(since,)] = rows(path, "SELECT acquired_at FROM task_lock_holder")
        with pytest.raises(LockBusy) as refusal:
            lock.take("second run", [WEDNESDAY, TUESDAY, MONDAY], 0)
    process = processes.this_process().pid
    assert f'["orders", "2024-01-01"] and 1 more held by run first run (process {process}, since {since})' in str(
        refusal.value
    )
    assert "second run" in str(refusal.value)
    assert isinstance(refusal.value, Transient)


def test_a_refused_run_keeps_nothing(lock: TaskLock, path: Path) -> None:
    with lock.take("one", [TUESDAY], 0):
        before = rows(path), rows(path, "SELECT * FROM task_lock_holder")
        for _ in range(2):
            with pytest.raises(LockBusy):
                lock.take("two", [MONDAY, TUESDAY, WEDNESDAY], 0)
        assert (rows(path), rows(path, "SELECT * FROM task_lock_holder")) == before
        assert is_free(lock, MONDAY, WEDNESDAY)


def test_a_waiting_run_says_once_for_whom_and_how_long(lock: TaskLock) -> None:
    said: list[str] = []
    with lock.take("one", [MONDAY], 0), pytest.raises(LockBusy, match=r"Run two waited 0\.2 s\."):
        lock.take("two", [MONDAY], 0.2, said.append)
    [message] = said
    assert message.startswith("Run two waits up to 0.2 s.")
    assert "held by run one" in message


def test_a_run_takes_its_own_jobs_again_and_frees_them_with_the_last_lease(lock: TaskLock) -> None:
    first = lock.take("one", [MONDAY], 0)
    second = lock.take("one", [MONDAY, TUESDAY], 0)
    first.release()
    assert not is_free(lock, MONDAY)
    second.check()
    second.release()
    assert is_free(lock, MONDAY, TUESDAY)


def test_a_run_that_takes_a_job_again_keeps_its_generation(lock: TaskLock, path: Path) -> None:
    with lock.take("one", [MONDAY], 0) as first:
        before = rows(path)
        with lock.take("one", [MONDAY], 0) as second:
            assert rows(path) == before
            first.check()
            second.check()


def test_a_taker_always_has_a_higher_generation_than_any_former_holder(lock: TaskLock, path: Path) -> None:
    generations = []
    for run in ("one", "two", "one", "three"):
        with lock.take(run, [MONDAY], 0), lock.take("beside", [TUESDAY], 0):
            [(generation,)] = rows(path, f"SELECT generation FROM task_lock WHERE run_id = '{run}'")
            generations.append(generation)
    # A run whose share in one job is old does not get an old generation for a job that was with others meanwhile.
    with lock.take("old", [TUESDAY], 0):
        lock.take("young", [MONDAY], 0).release()
        with lock.take("old", [MONDAY], 0):
            generations += [row[2] for row in rows(path) if row[0] == '["orders", "2024-01-01"]']
    assert generations == sorted(set(generations))
    assert generations[-1] > generations[-2] + 2


def test_a_body_that_raises_releases_its_jobs(lock: TaskLock) -> None:
    with pytest.raises(ZeroDivisionError), lock.take("one", [MONDAY], 0):
        _ = 1 / 0
    assert is_free(lock, MONDAY)


def test_no_jobs_and_thousands_of_jobs_are_both_taken_whole(lock: TaskLock, path: Path) -> None:
    many = [(f"asset {n % 7}", f"day {n // 7}") for n in range(1400)]
    with lock.take("none", [], 0) as nothing, lock.take("many", many, 0) as lease:
        nothing.check()
        lease.check()
        assert len(rows(path)) == 1400
        assert not is_free(lock, many[-1])
    assert rows(path) == []


def test_an_unpartitioned_asset_is_a_job_of_its_own(lock: TaskLock) -> None:
    with lock.take("one", [("orders", None)], 0) as lease:
        assert not is_free(lock, ("orders", None))
        assert is_free(lock, ("orders", ""), ("orders", "None"), ("orders", "null"))
        lease.check()


def test_hostile_names_are_all_different_jobs(lock: TaskLock, path: Path) -> None:
    jobs: list[Job] = [(asset, partition) for asset in HOSTILE for partition in [*HOSTILE, None]]
    with lock.take("one", jobs, 0) as lease:
        assert len(rows(path)) == len(jobs)
        lease.check()
        assert not any(is_free(lock, job) for job in jobs[:: len(HOSTILE)])
    assert is_free(lock, *jobs)


@pytest.mark.parametrize("run_id", HOSTILE[:12:3])
def test_a_hostile_run_id_is_only_a_name(lock: TaskLock, run_id: str) -> None:
    with lock.take(run_id, [MONDAY], 0) as lease:
        lease.check()
        assert not is_free(lock, MONDAY)
    assert is_free(lock, MONDAY)


def test_a_hostile_path_is_only_a_path(tmp_path: Path) -> None:
    path = tmp_path / "what? #1 100% 'data' größe" / "sqlite_file.sqlite"
    with TaskLock(path).take("one", [MONDAY], 0) as lease:
        lease.check()
        assert {file.name for file in path.parent.iterdir()} >= {"sqlite_file.sqlite", "sqlite_file.sqlite-host"}


def test_a_run_that_has_ended_loses_its_jobs_at_once(path: Path) -> None:
    ended: set[str] = set()
    lock = TaskLock(path, run_has_ended=ended.__contains__)
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
        assert not is_free(TaskLock(path), MONDAY)


def test_a_process_that_joins_a_run_just_judged_ended_keeps_its_jobs(path: Path) -> None:
    joined: list[Lease] = []

    def ended(run_id: str) -> bool:
        if joined:
            return False
        joined.append(TaskLock(path).take("one", [MONDAY], 0))  # The run is resumed in this very moment.
        return True

    lock = TaskLock(path, run_has_ended=ended)
    lock.take("one", [MONDAY], 0)
    with pytest.raises(LockBusy):
        lock.take("two", [MONDAY], 0)
    joined[0].check()


def test_nobody_is_asked_whether_a_run_ended_while_the_file_is_locked(path: Path) -> None:
    def ended(run_id: str) -> bool:
        change(path, "UPDATE task_lock SET acquired_at = acquired_at")  # Fails if a transaction were open.
        return True

    state_lock = TaskLock(path, run_has_ended=ended)
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
def test_a_lease_whose_row_changed_must_not_commit(lock: TaskLock, path: Path, sql: str) -> None:
    with lock.take("one", [MONDAY, TUESDAY], 0) as lease:
        change(path, sql)
        with pytest.raises(LockLost, match=r"2024-01-02.*retrying helps"):
            lease.check([TUESDAY])


def test_a_job_that_was_never_taken_is_not_held(lock: TaskLock) -> None:
    with lock.take("one", [MONDAY], 0) as lease:
        lease.check([MONDAY])
        with pytest.raises(LockLost):
            lease.check([MONDAY, TUESDAY])


def test_a_released_lease_must_not_commit_even_if_its_run_holds_the_job_again(lock: TaskLock) -> None:
    old = lock.take("one", [MONDAY], 0)
    old.release()
    with pytest.raises(LockLost):
        old.check()
    with lock.take("one", [MONDAY], 0), pytest.raises(LockLost):
        old.check()


def test_only_its_own_lease_releases_a_job(lock: TaskLock) -> None:
    old = lock.take("one", [MONDAY], 0)
    old.release()
    with lock.take("one", [MONDAY], 0) as lease:
        old._may_be_recorded = True
        old.release()
        lease.check()


def test_a_pid_with_another_start_time_has_lost_its_jobs(lock: TaskLock, path: Path) -> None:
    with lock.take("one", [MONDAY], 0) as stale:
        change(path, "UPDATE task_lock_holder SET started_at = started_at - 1")
        with lock.take("two", [MONDAY], 0), pytest.raises(LockLost):
            stale.check()


def test_after_a_reboot_everything_is_free_though_a_pid_and_start_time_agree(lock: TaskLock, path: Path) -> None:
    for _ in range(2):
        lease = lock.take("one", [MONDAY], 0)
        lease._at_work.close()  # The reboot ended the process, its flock included; the rows are from the earlier boot.
        for table in ("task_lock", "task_lock_holder"):
            change(path, f"UPDATE {table} SET host = 'earlier boot'")
        Path(f"{path}-host").write_text("earlier boot pid:[1]\nmachine\n")
        with lock.take("two", [MONDAY], 0) as taker:
            taker.check()


def test_a_host_that_slips_in_while_we_claim_the_file_is_noticed(
    lock: TaskLock, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step from the exclusive to the shared flock is not atomic: here, another host comes and goes in between."""
    really, host_file, asked = fcntl.flock, Path(f"{path}-host"), []

    def flock(descriptor: int, operation: int) -> None:
        asked.append(operation & ~fcntl.LOCK_NB)
        if asked == [fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_SH]:
            host_file.write_text("their-boot pid:[7]\ntheir-container\n")
        really(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock.take("one", [MONDAY], 0):
        assert host_file.read_text().startswith(processes.this_process().host)
    assert len(asked) > 3


@pytest.mark.parametrize("content", [b"", b"\xff\xfe garbage", b"x" * 10_000])
def test_a_torn_host_file_is_written_anew(lock: TaskLock, path: Path, content: bytes) -> None:
    lock.take("one", [MONDAY], 0).release()
    host_file = Path(f"{path}-host")
    good = host_file.read_bytes()
    host_file.write_bytes(content)
    lock.take("one", [MONDAY], 0).release()
    assert host_file.read_bytes() == good


def test_a_host_at_work_is_refused_by_name_with_what_to_do(
    lock: TaskLock, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl_project.exclusion.sqlite_file.CLAIM_SECONDS", 0.1)
    lease = lock.take("one", [MONDAY], 0)
    Path(f"{path}-host").write_text("their-boot pid:[7]\ntheir-container\n")  # As if that lease were another host's.
    for _ in range(2):
        with pytest.raises(
            WrongHost, match=r"their-container \(boot and pid namespace their-boot pid:\[7\]\)"
        ) as refusal:
            lock.take("two", [TUESDAY], 0)
        assert isinstance(refusal.value, Permanent)
        assert "ETL_DATA_DIR" in str(refusal.value)
    lease.release()
    assert is_free(lock, TUESDAY)


def test_a_run_without_any_process_holds_nothing(lock: TaskLock, path: Path) -> None:
    with lock.take("one", [MONDAY], 0):
        change(path, "DELETE FROM task_lock_holder")
        assert is_free(lock, MONDAY)


def test_the_last_living_process_of_a_run_frees_what_a_dead_one_still_holds(lock: TaskLock, path: Path) -> None:
    lock.take("one", [MONDAY], 0)
    last = lock.take("one", [TUESDAY], 0)
    change(path, "UPDATE task_lock_holder SET started_at = '1' WHERE generation = 1")
    last.release()
    assert rows(path) == rows(path, "SELECT * FROM task_lock_holder") == []


def test_what_a_dead_process_held_is_swept_by_whoever_comes(lock: TaskLock, path: Path) -> None:
    lock.take("one", [MONDAY], 0)
    change(path, "UPDATE task_lock_holder SET started_at = '1'")
    lock.take("two", [TUESDAY], 0).release()
    assert rows(path) == rows(path, "SELECT * FROM task_lock_holder") == []


def test_a_missing_file_is_created_and_one_removed_under_a_lease_is_a_lost_lock(lock: TaskLock, path: Path) -> None:
    lease = lock.take("one", [MONDAY], 0)
    for file in list(path.parent.iterdir()):
        file.unlink()
    with pytest.raises(LockLost, match="is gone"):
        lease.check()
    lease.release()
    with lock.take("one", [MONDAY], 0), pytest.raises(LockLost):
        lease.check([TUESDAY])


def damaged(path: Path) -> None:
    path.write_bytes(b"this is no database " * 1000)


def torn(path: Path) -> None:
    TaskLock(path).take("one", [(str(n), None) for n in range(500)], 0)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)


def a_folder(path: Path) -> None:
    path.mkdir()


def of_another_version(path: Path) -> None:
    change(path, "CREATE TABLE task_lock (job_id TEXT PRIMARY KEY, run_id TEXT)")


@pytest.mark.parametrize("break_it", [damaged, torn, a_folder, of_another_version])
def test_a_file_that_cannot_be_used_gives_one_error_that_says_what_to_do(
    path: Path, break_it: Callable[[Path], None]
) -> None:
    path.parent.mkdir()
    break_it(path)
    for _ in range(2):
        with pytest.raises(
            sqlite_file.StateUnusable, match="Retrying does not help: make the file and its folder"
        ) as refusal:
            TaskLock(path).take("two", [MONDAY], 5)
        assert str(path) in str(refusal.value)
        assert isinstance(refusal.value, Permanent)


def test_a_folder_that_cannot_be_written_gives_the_same_error() -> None:
    with pytest.raises(sqlite_file.StateUnusable, match="/proc/nowhere"):
        TaskLock(Path("/proc/nowhere/sqlite_file.sqlite")).take("one", [MONDAY], 5)


def test_a_pickled_lock_is_the_same_lock(lock: TaskLock) -> None:
    with lock.take("one", [MONDAY], 0):
        assert not is_free(pickle.loads(pickle.dumps(lock)), MONDAY)


def test_threads_of_one_process_exclude_each_other_by_run(lock: TaskLock) -> None:
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


def test_one_lease_serves_several_threads(lock: TaskLock) -> None:
    def work(lease: Lease) -> None:
        for _ in range(20):
            lease.check()

    with lock.take("one", [MONDAY], 0) as lease, ThreadPoolExecutor(4) as threads:
        for result in [threads.submit(work, lease) for _ in range(4)]:
            result.result()


def test_a_taker_keeps_no_descriptor_open(lock: TaskLock) -> None:
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
