"""Many small files on their way together: each ends where it ends alone, and none leaves before it is durable."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from etl_project import atomic
from etl_project.sources.intake import admit, lots
from etl_project.sources.intake.writers import Writers
from etl_project_tests.steady import PATIENCE_SECONDS
from etl_project_tests.unit.sources.world import World, rows


def dropped(root: Path) -> World:
    """Good files, repeated ones, refused ones and a large one among each other, in an order that matters."""
    world = World(root)
    for at in range(40):
        world.drop(f"a{at:03}-2024-03-05.csv", rows(1 + at))
    world.drop("b-2024-03-05.csv", rows(3))  # the content of a002: a duplicate
    world.drop("c-2024-03-05.csv", b"no header\n")
    world.drop("d-2024-03-05.csv", rows(30_000))
    world.drop("e-2024-03-04.csv", rows(50))
    world.drop("f-2024-03-05.csv", rows(60))
    return world


def outcomes(world: World) -> list[tuple[Any, ...]]:
    return [(one.name, one.outcome, one.rows, one.rejected, one.sha256, one.reason) for one in world.receive()]


def archived(world: World) -> list[str]:
    root = world.roots[1]
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("most", [1, 7, 256])
def test_files_that_go_together_end_where_each_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(lots, "MOST_FILES", 1)
    alone = dropped(tmp_path / "alone")
    expected = outcomes(alone)
    assert {one[1] for one in expected} == {"accepted", "duplicate", "refused"}
    monkeypatch.setattr(lots, "MOST_FILES", most)
    together = dropped(tmp_path / "together")
    assert outcomes(together) == expected
    assert archived(together) == archived(alone)


def test_neighbours_of_a_day_go_together_and_a_large_file_goes_alone(tmp_path: Path) -> None:
    world = dropped(tmp_path)
    cut = [[one.name[0] for one in lot] for lot in lots.lots(world.scan().waiting)]
    assert [(lot[0], lot[-1], len(lot)) for lot in cut] == [
        ("a", "c", 42),
        ("d", "d", 1),
        ("e", "e", 1),
        ("f", "f", 1),
    ]


def test_no_file_leaves_before_the_folders_of_its_lot_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = dropped(tmp_path)
    events: list[str] = []
    sync, leave = atomic.sync_folder, admit.Receiver._leave

    def synced(folder: Path) -> None:
        sync(folder)
        events.append(os.fspath(folder))

    def left(self: admit.Receiver, entry: Any, *rest: Any) -> None:
        events.append(f"left {entry.name}")
        leave(self, entry, *rest)

    monkeypatch.setattr(atomic, "sync_folder", synced)
    monkeypatch.setattr(admit.Receiver, "_leave", left)
    world.receive()
    source = world.roots[1] / world.spec.name
    for at in range(40):
        name, day = f"a{at:03}-2024-03-05.csv", source / "2024-03-05"
        before = events[: events.index(f"left {name}")]
        assert {os.fspath(day / name), os.fspath(day), os.fspath(source)} <= set(before)


def test_a_file_that_a_killed_run_had_archived_is_flushed_before_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    world.drop("a-2024-03-05.csv", rows(3))
    world.receive()
    world.drop("a-2024-03-05.csv", rows(3))
    synced: list[Path] = []
    monkeypatch.setattr(admit.threads, "sync_folders", synced.extend)
    (result,) = world.receive()
    assert result.outcome == "identical"
    assert world.roots[1] / world.spec.name / "2024-03-05" / "a-2024-03-05.csv" in synced


def test_what_is_in_the_way_of_one_file_ends_its_lot_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    for at in range(5):
        world.drop(f"a{at}-2024-03-05.csv", rows(1 + at))
    tried = admit.private_copy._tried

    def failing(entry: Any, *rest: Any) -> Any:
        if entry.name.startswith("a2"):
            return OSError(28, "No space left on device", entry.path)
        return tried(entry, *rest)

    monkeypatch.setattr(admit.private_copy, "_tried", failing)
    results = admit.receive_all(world.scan().waiting, world.spec, *world.roots)
    assert [(one.name[:2], one.outcome) for one in results.received] == [("a0", "accepted"), ("a1", "accepted")]
    assert [(one.waiting.name[:2], "No space" in str(one.error)) for one in results.failed] == [("a2", True)]
    monkeypatch.undo()
    assert [one.name[:2] for one in world.receive()] == ["a2", "a3", "a4"]
    assert not list(world.roots[1].rglob(f"{atomic.TEMPORARY_PREFIX}*"))


def test_an_interrupt_ends_it_after_the_files_at_work_and_all_others_keep_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lots, "MOST_FILES", 1)
    world = World(tmp_path)
    for at in range(200):
        world.drop(f"a{at:03}-2024-03-0{1 + at % 2}.csv", rows(1 + at))
    made, begun, told = admit.private_copy.made, count(1), threading.Event()

    def slowly(entry: Any, *rest: Any) -> Any:
        if next(begun) == 10:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
            told.wait(PATIENCE_SECONDS)
        time.sleep(0.02)  # Time for the other thread, which the signal wakes, to stop what was not begun.
        return made(entry, *rest)

    def interrupt(*_: object) -> None:
        told.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(admit.private_copy, "made", slowly)
    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            admit.receive_all(world.scan().waiting, world.spec, *world.roots, 2)
    finally:
        signal.signal(signal.SIGALRM, former)
    left = len(world.scan().waiting)
    assert left > 100
    monkeypatch.undo()
    assert len(world.receive(2)) == left and len(archived(world)) == 200


def test_files_of_many_days_at_once_need_few_open_files(tmp_path: Path) -> None:
    world = World(tmp_path)
    for at in range(400):
        world.drop(f"a{at:03}-2024-03-{1 + at % 4:02}.csv", rows(1 + at))
    waiting = world.scan().waiting
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = len(os.listdir("/proc/self/fd"))  # noqa: TID251  # Their number.
    resource.setrlimit(resource.RLIMIT_NOFILE, (there + 80, hard))
    try:
        results = admit.receive_all(waiting, world.spec, *world.roots, threads=4)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not results.failed
    assert {one.outcome for one in results.received} == {"accepted"}


def test_copies_that_a_kill_has_left_are_swept_and_those_at_work_are_not(tmp_path: Path) -> None:
    world = World(tmp_path)
    for at in range(3):
        world.drop(f"a{at}-2024-03-05.csv", rows(1 + at))
    source = world.roots[1] / world.spec.name
    left = source / f"{atomic.TEMPORARY_PREFIX}left{atomic.TEMPORARY_SUFFIX}"
    left.mkdir(parents=True)
    (left / "0").write_bytes(b"half")
    with admit.private_copy.made_together(world.scan().waiting, source, Writers()) as copies:
        admit.sweep(world.spec, *world.roots[:2])
        assert all(copy.path.is_file() for copy in copies if isinstance(copy, admit.Copy))
        assert not left.exists()
    assert not list(world.roots[1].rglob(f"{atomic.TEMPORARY_PREFIX}*"))
