"""SIGKILL at every named step of fetching objects: the next pass ends where an undisturbed one does."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from etl_project_tests import s3
from etl_project_tests.forks import FORKS
from etl_project_tests.unit.sources.bucket_world import BucketWorld
from etl_project_tests.unit.sources.world import rows

pytestmark = s3.needed

A, B, C, D = (f"{letter}-2024-03-05.csv" for letter in "abcd")
STEPS = [
    "fetch.after_copy_here",
    "fetch.record.before_rename",
    "fetch.record.after_rename",
    "fetch.after_record",
    "fetch.after_place",
    "fetch.after_copy",
    "fetch.after_removal",
    "archive.after_rename",
    "quarantine.after_reason",
    "incoming.after_claim",
]


def prepared(root: Path) -> BucketWorld:
    """Something accepted before, and one waiting object for each way that an object can go."""
    world = BucketWorld(root)
    world.drop(A, rows(3))
    world.drop(B, rows(4))
    world.receive()
    world.drop(A, rows(5))  # a correction
    world.drop(B, rows(4))  # identical
    world.drop(D, rows(6, first=100))  # new
    world.drop(f"x/{C}", b"no header\n")  # refused, after all that is accepted, which its reason names the last of
    return world


def pass_over(root: Path, fault: str | None) -> None:
    """What the children run."""
    if fault:
        os.environ["ETL_FAULT"] = fault
    world = BucketWorld(root)
    world.fetch()
    world.receive_what_is_there()
    world.fetch()


def run(root: Path, fault: str | None = None) -> int:
    """The exit code of a child that fetches, takes in and sends back."""
    child = FORKS.Process(target=pass_over, args=(root, fault))
    child.start()
    child.join()
    return int(child.exitcode or 0)


def end_of(world: BucketWorld) -> dict[str, Any]:
    """What is here and in the bucket, without times."""
    refused = {
        key: {name: value for name, value in json.loads(content).items() if name != "refused_at"}
        if key.endswith(".json")
        else content
        for key, content in world.refused().items()
    }
    return {"here": world.state(), "archive": world.archived(), "quarantine": refused, "incoming": world.waiting()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    world = prepared(tmp_path_factory.mktemp("undisturbed"))
    assert run(world.root) == 0
    end = end_of(world)
    assert end["incoming"] == [] and len(end["archive"]) == 4 and len(end["quarantine"]) == 2
    return end


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_ends_where_an_undisturbed_pass_does(
    tmp_path: Path, undisturbed: dict[str, Any], step: str
) -> None:
    world = prepared(tmp_path)
    for nth in (1, 2):
        code = run(world.root, f"{step}:{nth}=kill")
        assert code == -signal.SIGKILL or nth == 2, "the second kill may find nothing left to do"
        for parent, _, _ in os.walk(world.folder / ".taken"):
            os.utime(parent, (1, 1))  # No longer being worked on.
    for _ in range(2):
        assert run(world.root) == 0
        assert end_of(world) == undisturbed
