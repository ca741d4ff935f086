"""SIGKILL at every named step of receiving a file: the next call ends where an undisturbed one does."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from etl_project.sources.intake import admit, quarantine
from etl_project_tests.forks import FORKS
from etl_project_tests.unit.sources.world import World, lines, rows, spec

A, B, C, D, E = (f"{letter}-2024-03-05.csv" for letter in "abcde")
F, G = "f-2024-03-04.csv", "g-2024-03-03.csv"
STEPS = [
    "archive.before_rename",
    "archive.after_rename",
    "incoming.after_archive",
    "incoming.after_claim",
    "incoming.after_removal",
    "quarantine.reason.before_rename",
    "quarantine.reason.after_rename",
    "quarantine.after_reason",
    "quarantine.after_move",
]


def prepared(root: Path) -> World:
    """Something accepted before, and one waiting file for each way that a file can go."""
    world = World(root)
    world.drop(A, rows(3))
    world.drop(B, rows(4))
    world.drop(F, rows(6, first=100))
    world.drop(G, rows(7, first=200))
    world.receive()
    world.drop(G, rows(2, first=200))
    world.receive(max_removed_ratio=0.5)
    (short,) = world.quarantined()
    os.utime(quarantine.release(world.quarantine, short.reason.key, world.incoming), (1, 1))  # meant to be so short
    world.drop(F, rows(2, first=100))  # cut at a whole line
    world.drop(A, rows(5))  # a correction
    world.drop(B, rows(4))  # identical
    world.drop(C, rows(4))  # a duplicate
    world.drop("x/" + D, b"no header\n")  # refused
    world.drop(os.fsdecode(b"\xff\n" + E.encode()), rows(20_000))  # new, and long enough to be killed in
    world.drop("undated.csv", rows(1))
    return world


def receive_everything(root: Path, threads: int, fault: str | None) -> None:
    """What the children run."""
    if fault:
        os.environ["ETL_FAULT"] = fault
    world = World(root)
    for unplaced in world.scan().undated:
        admit.put_into_quarantine(unplaced, world.spec, *world.roots)
    world.receive(threads, max_removed_ratio=0.5)


def started(world: World, threads: int = 1, fault: str | None = None) -> Any:
    child = FORKS.Process(target=receive_everything, args=(world.root, threads, fault))
    child.start()
    return child


def run(world: World, fault: str | None = None) -> int:
    """The exit code of a child that takes everything in."""
    child = started(world, fault=fault)
    child.join()
    return int(child.exitcode)


def settle_claims(world: World) -> None:
    """Let the time pass after which a claim is no longer being worked on."""
    for parent, _, _ in os.walk(world.folder / ".taken"):
        os.utime(parent, (1, 1))


def assert_each_refused_file_has_its_reason(world: World) -> None:
    for folder in world.quarantine.glob("*/*/*/"):
        if any(path.is_file() for path in folder.rglob("*")):
            assert folder.with_suffix(".json").is_file()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, Any]:
    world = prepared(tmp_path_factory.mktemp("undisturbed"))
    assert run(world) == 0
    return world.state()


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_ends_where_an_undisturbed_call_does(
    tmp_path: Path, undisturbed: dict[bytes, Any], step: str
) -> None:
    for nth in (1, 2):
        world = prepared(tmp_path / str(nth))
        assert run(world, f"{step}:{nth}=kill") == -signal.SIGKILL
        assert_each_refused_file_has_its_reason(world)
        settle_claims(world)
        assert run(world) == 0
        assert world.state() == undisturbed


def test_an_undisturbed_second_call_changes_nothing(tmp_path: Path, undisturbed: dict[bytes, Any]) -> None:
    world = prepared(tmp_path)
    for _ in range(2):
        assert run(world) == 0
        assert world.state() == undisturbed


@pytest.mark.parametrize("step", ["archive.before_rename", "incoming.after_claim", "quarantine.after_reason"])
@pytest.mark.parametrize("kind", ["full", "error"])
def test_an_error_at_a_step_ends_where_an_undisturbed_call_does(
    tmp_path: Path, undisturbed: dict[bytes, Any], step: str, kind: str
) -> None:
    world = prepared(tmp_path)
    assert run(world, f"{step}={kind}") == 1
    assert [path.name for path in (world.archive / "sales").glob(".etl-*")] == []
    settle_claims(world)
    assert run(world) == 0
    assert world.state() == undisturbed


def release(root: Path, key: str, fault: str) -> None:
    """What a child runs: put one refused file back."""
    if fault:
        os.environ["ETL_FAULT"] = fault
    quarantine.release(root / "quarantine", key, root / "incoming")


@pytest.mark.parametrize("step", ["quarantine.release.staged", "quarantine.release.back"])
def test_a_release_that_was_killed_can_be_made_again_and_leaves_nothing_behind(tmp_path: Path, step: str) -> None:
    world = World(tmp_path)
    world.drop(A, b"no header\n")
    world.receive()
    before = world.state()
    (entry,) = world.quarantined()
    for fault, code in ((f"{step}=kill", -signal.SIGKILL), ("", 0)):
        child = FORKS.Process(target=release, args=(tmp_path, entry.reason.key, fault))
        child.start()
        child.join()
        assert child.exitcode == code
    assert world.quarantined() == []
    os.utime(world.folder / A, (1, 1))
    world.receive()
    assert world.state() == before
    assert list(tmp_path.rglob(".etl-*")) == []


@pytest.mark.stress
def test_kills_at_random_moments_end_where_an_undisturbed_call_does(
    tmp_path: Path, undisturbed: dict[bytes, Any]
) -> None:
    chance = random.Random(20240305)
    for number in range(60):
        world = prepared(tmp_path / str(number))
        for _ in range(chance.randint(1, 3)):
            child = started(world, threads=chance.choice((1, 4)))
            time.sleep(chance.uniform(0.05, 0.4))
            child.kill()
            child.join()
            settle_claims(world)
        assert run(world) == 0
        assert world.state() == undisturbed


def receive_in_two_encodings(root: Path, fault: str | None) -> None:
    """What the children run where one of two encodings is chosen."""
    if fault:
        os.environ["ETL_FAULT"] = fault
    in_two_encodings(root).receive()


def in_two_encodings(root: Path) -> World:
    return World(root, spec(encoding="utf-8", other_encodings=("cp1252",)))


@pytest.mark.parametrize("step", ["archive.encoding.before_rename", "archive.encoding.after_rename"])
def test_no_version_is_there_before_it_stands_which_encoding_it_is_in(tmp_path: Path, step: str) -> None:
    worlds = [in_two_encodings(tmp_path / name) for name in ("killed", "undisturbed")]
    for world in worlds:
        world.drop(A, lines("1,1,,5 €").decode().encode("cp1252"))
    child = FORKS.Process(target=receive_in_two_encodings, args=(worlds[0].root, f"{step}=kill"))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert worlds[0].accepted() == {}
    for world in worlds:
        world.receive()
    assert worlds[0].state() == worlds[1].state()
    assert any(name.endswith(b".encoding") for name in worlds[0].state())
