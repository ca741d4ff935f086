"""SIGKILL at every named step of taking in a file of many days: it ends under all of its days, or under none."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from etl_project.sources.intake import archive, spread
from etl_project_tests.forks import FORKS
from etl_project_tests.unit.sources.intake import test_many_days as many_days
from etl_project_tests.unit.sources.world import World

STEPS = [
    "spread.record.before_rename",
    "spread.record.after_rename",
    "spread.after_mark",
    "archive.before_rename",
    "archive.after_rename",
    "spread.before_link:1",
    "spread.before_link:2",
    "spread.before_link:3",
    "spread.after_links",
    "incoming.after_archive",
    "incoming.after_claim",
    "incoming.after_removal",
]
ROWS = ("1,2024-03-01,", "2,2024-03-02,", "3,2024-03-03,")


def take_in(root: Path, fault: str | None) -> None:
    """What the children run."""
    if fault:
        os.environ["ETL_FAULT"] = fault
    many_days.receive(World(root, many_days.SPEC))


def run(world: World, fault: str | None = None) -> int:
    child = FORKS.Process(target=take_in, args=(world.root, fault))
    child.start()
    child.join()
    return int(child.exitcode or 0)


def prepared(root: Path) -> World:
    """A file that was taken in before, and its correction."""
    world = World(root, many_days.SPEC)
    many_days.sent(world, "export.csv", "7,2024-03-01,", "8,2024-03-02,")
    world.drop("export.csv", many_days.text(*ROWS))
    return world


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, Any]:
    world = prepared(tmp_path_factory.mktemp("undisturbed"))
    assert run(world) == 0
    return world.state()


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_ends_where_an_undisturbed_call_does(
    tmp_path: Path, undisturbed: dict[bytes, Any], step: str
) -> None:
    world = prepared(tmp_path)
    assert run(world, f"{step}=kill") == -signal.SIGKILL
    for parent, _, _ in os.walk(world.folder / ".taken"):
        os.utime(parent, (1, 1))
    for _ in range(2):
        assert run(world) == 0
        assert world.state() == undisturbed
    assert many_days.ids(world) == {
        day: [n] for n, day in enumerate((many_days.FIRST, many_days.SECOND, many_days.THIRD), 1)
    }


@pytest.mark.parametrize("step", STEPS[3:9])
def test_a_file_that_its_sender_replaces_after_a_kill_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, step: str
) -> None:
    world = prepared(tmp_path)
    assert run(world, f"{step}=kill") == -signal.SIGKILL
    world.drop("export.csv", many_days.text("4,2024-03-01,", "5,2024-03-02,", "6,2024-03-03,"))
    assert run(world) == 0
    assert many_days.ids(world) == {many_days.FIRST: [4], many_days.SECOND: [5], many_days.THIRD: [6]}
    assert not spread.unfinished(world.archive, world.spec)


@pytest.mark.parametrize("kind", ["full", "error"])
def test_a_full_disk_leaves_the_file_waiting(tmp_path: Path, undisturbed: dict[bytes, Any], kind: str) -> None:
    world = prepared(tmp_path)
    assert run(world, f"spread.before_link:2={kind}") == 1
    assert len(archive.accepted_days(world.archive, world.spec)) == 2
    assert run(world) == 0
    assert world.state() == undisturbed
