"""The task lock after what went wrong: dead holders, reboots, other hosts, files that are torn, gone or no lock's."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

from etl_project.exclusion import processes, sqlite_file
from etl_project.exclusion.jobs import LockLost, Locks
from etl_project.exclusion.locks import TaskLock
from etl_project.exclusion.sqlite_file import WrongHost
from etl_project.failures import Permanent
from etl_project_tests.crash.locks.holders import is_free
from etl_project_tests.crash.locks.places import File, Place
from etl_project_tests.unit.exclusion.lock_rows import MONDAY, TUESDAY


def test_a_pid_with_another_start_time_has_lost_its_jobs(lock: Locks, place: Place) -> None:
    with lock.take("one", [MONDAY], 0) as stale:
        place.change("UPDATE task_lock_holder SET started_at = '1'")
        with lock.take("two", [MONDAY], 0), pytest.raises(LockLost):
            stale.check()


def test_after_a_reboot_everything_is_free_though_a_pid_and_start_time_agree(file_lock: TaskLock, path: Path) -> None:
    for _ in range(2):
        lease = file_lock.take("one", [MONDAY], 0)
        lease._at_work.close()  # The reboot ended the process, its flock included; the rows are from the earlier boot.
        for table in ("task_lock", "task_lock_holder"):
            File(path).change(f"UPDATE {table} SET host = 'earlier boot'")
        Path(f"{path}-host").write_text("earlier boot pid:[1]\nmachine\n")
        with file_lock.take("two", [MONDAY], 0) as taker:
            taker.check()


def test_a_host_that_slips_in_while_we_claim_the_file_is_noticed(
    file_lock: TaskLock, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step from the exclusive to the shared flock is not atomic: here, another host comes and goes in between."""
    really, host_file, asked = fcntl.flock, Path(f"{path}-host"), []

    def flock(descriptor: int, operation: int) -> None:
        asked.append(operation & ~fcntl.LOCK_NB)
        if asked == [fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_SH]:
            host_file.write_text("their-boot pid:[7]\ntheir-container\n")
        really(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with file_lock.take("one", [MONDAY], 0):
        assert host_file.read_text().startswith(processes.this_process().host)
    assert len(asked) > 3


@pytest.mark.parametrize("content", [b"", b"\xff\xfe garbage", b"x" * 10_000])
def test_a_torn_host_file_is_written_anew(file_lock: TaskLock, path: Path, content: bytes) -> None:
    file_lock.take("one", [MONDAY], 0).release()
    host_file = Path(f"{path}-host")
    good = host_file.read_bytes()
    host_file.write_bytes(content)
    file_lock.take("one", [MONDAY], 0).release()
    assert host_file.read_bytes() == good


def test_a_host_at_work_is_refused_by_name_with_what_to_do(
    file_lock: TaskLock, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl_project.exclusion.sqlite_file.CLAIM_SECONDS", 0.1)
    lease = file_lock.take("one", [MONDAY], 0)
    Path(f"{path}-host").write_text("their-boot pid:[7]\ntheir-container\n")  # As if that lease were another host's.
    for _ in range(2):
        with pytest.raises(
            WrongHost, match=r"their-container \(boot and pid namespace their-boot pid:\[7\]\)"
        ) as refusal:
            file_lock.take("two", [TUESDAY], 0)
        assert isinstance(refusal.value, Permanent)
        assert "ETL_DATA_DIR" in str(refusal.value)
    lease.release()
    assert is_free(file_lock, TUESDAY)


def test_a_run_without_any_process_holds_nothing(lock: Locks, place: Place) -> None:
    with lock.take("one", [MONDAY], 0):
        place.change("DELETE FROM task_lock_holder")
        assert is_free(lock, MONDAY)


def test_the_last_living_process_of_a_run_frees_what_a_dead_one_still_holds(lock: Locks, place: Place) -> None:
    lock.take("one", [MONDAY], 0)
    last = lock.take("one", [TUESDAY], 0)
    first = "SELECT token FROM task_lock_holder ORDER BY acquired_at LIMIT 1"
    place.change(f"UPDATE task_lock_holder SET started_at = '1' WHERE token = ({first})")
    last.release()
    assert place.rows() == place.rows("SELECT * FROM task_lock_holder") == []


def test_what_a_dead_process_held_is_swept_by_whoever_comes(lock: Locks, place: Place) -> None:
    lock.take("one", [MONDAY], 0)
    place.change("UPDATE task_lock_holder SET started_at = '1'")
    lock.take("two", [TUESDAY], 0).release()
    assert place.rows() == place.rows("SELECT * FROM task_lock_holder") == []


def test_a_missing_file_is_created_and_one_removed_under_a_lease_is_a_lost_lock(
    file_lock: TaskLock, path: Path
) -> None:
    lease = file_lock.take("one", [MONDAY], 0)
    for file in list(path.parent.iterdir()):
        file.unlink()
    with pytest.raises(LockLost, match="is gone"):
        lease.check()
    lease.release()
    with file_lock.take("one", [MONDAY], 0), pytest.raises(LockLost):
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
    File(path).change("CREATE TABLE task_lock (job_id TEXT PRIMARY KEY, run_id TEXT)")


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
