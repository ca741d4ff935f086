"""Promise 9: a reader sees whole partitions, two writers of one partition never both win, others wait their turn."""

from __future__ import annotations

import errno
import fcntl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from etl_project.storage.contract import Request, StoreUnavailable
from etl_project_tests.contracts import world
from etl_project_tests.contracts.backends import BACKENDS, open_store

ONE = world.days(1)


def test_two_threads_that_write_one_empty_day_leave_one_of_their_row_sets(backend: str, tmp_path: Path) -> None:
    world.write(backend, tmp_path, world.days(1, 5), 0)
    together = threading.Barrier(2)

    def write(version: int) -> None:
        together.wait()
        world.write(backend, tmp_path, ONE, version)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, [1, 2]))
    assert set(world.versions(backend, tmp_path, ONE).values()) <= {1, 2}
    world.records_agree(backend, tmp_path, world.days(6))


def test_two_writers_that_both_found_the_day_empty_do_not_both_insert(backend: str, tmp_path: Path) -> None:
    """The second writer comes between the first one's look at the day and its commit.

    Where it may commit first, the first one looks again; where it has to wait, it goes second.
    """
    world.write(backend, tmp_path, world.days(1, 5), 0)
    waits = backend in ("parquet", "ducklake", "postgres")
    others = []

    def second_writer() -> None:
        store = open_store(backend, tmp_path)
        store.replace(world.TABLE, ONE, world.rows(ONE, 1), Request("the other"))

    def overtaken() -> None:
        if not others:
            others.append(threading.Thread(target=second_writer))
            others[0].start()
            others[0].join(0.5 if waits else None)

    store = open_store(backend, tmp_path)
    store.replace(world.TABLE, ONE, world.rows(ONE, 2), Request("the slow one", still_owner=overtaken))
    others[0].join()
    order = ["the slow one", "the other"] if waits else ["the other", "the slow one"]
    assert [commit.run_id for commit in store.history("orders", "2024-01-01")] == order
    assert list(world.versions(backend, tmp_path, ONE).values()) == [1 if waits else 2]


def test_processes_that_write_one_empty_day_leave_one_of_their_row_sets(backend: str, tmp_path: Path) -> None:
    writers = [world.start(world.write, backend, tmp_path, ONE, version) for version in (1, 2, 3)]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert set(world.versions(backend, tmp_path, ONE).values()) < {1, 2, 3}
    assert len(open_store(backend, tmp_path).history("orders", "2024-01-01")) == 3


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "duckdb-lost-commit-answer"])
def test_readers_see_whole_days_while_processes_write_the_same_and_other_days(backend: str, tmp_path: Path) -> None:
    run_side_by_side(backend, tmp_path, processes=3, days=6, rounds=1)


@pytest.mark.stress
@pytest.mark.timeout(1800)
def test_eight_processes_write_forty_days_under_the_eyes_of_a_reader(backend: str, tmp_path: Path) -> None:
    run_side_by_side(backend, tmp_path, processes=8, days=40, rounds=2)


def run_side_by_side(backend: str, folder: Path, processes: int, days: int, rounds: int) -> None:
    """Neighbouring writers share half of their days."""
    scope = world.days(days)
    world.write(backend, folder, scope, 0)
    share = days // processes
    reader = world.start(world.keep_reading, backend, folder, scope, 1.0)
    writers = [
        world.start(
            world.keep_writing, backend, folder, world.days(min(share * 2, days - n * share), n * share), n, rounds
        )
        for n in range(processes)
    ]
    for process in (*writers, reader):
        process.join()
        assert process.exitcode == 0
    assert len(world.versions(backend, folder, scope)) == days
    world.records_agree(backend, folder, scope)


def test_two_days_through_one_process_equal_two_processes(backend: str, tmp_path: Path) -> None:
    other = world.days(1, 1)
    for scope in (ONE, other):
        world.write(backend, tmp_path / "one", scope, 7)
        assert world.finish(world.write, backend, tmp_path / "two", scope, 7) == 0

    def fingerprints(folder: Path) -> dict[object, str]:
        return {key: commit.fingerprint for key, commit in open_store(backend, folder).last_commits().items()}

    assert fingerprints(tmp_path / "one") == fingerprints(tmp_path / "two")


def test_files_that_cannot_be_locked_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    world.write("parquet", tmp_path, ONE, 1)
    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="cannot be locked"):
            world.write("parquet", tmp_path, ONE, 2)
    assert list(world.versions("parquet", tmp_path, ONE).values()) == [1]
