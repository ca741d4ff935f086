"""A write that keeps versions, killed at any step: every version is one that was replaced, whole, and none is lost."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from etl_project.storage.contract import Request, Version
from etl_project_tests import s3
from etl_project_tests.contracts import world

STEPS = {
    "duckdb": [
        "duckdb.after_claim",
        "duckdb.version_kept",
        "duckdb.between_delete_and_insert",
        "duckdb.before_commit",
        "duckdb.after_commit",
    ],
    "parquet": ["parquet.version_kept", "parquet.half_written", "parquet.before_rename", "parquet.after_rename"],
}
if s3.BUCKET:
    STEPS["bucket"] = ["bucket.version_kept", "parquet.half_written", "bucket.before_put", "bucket.after_put"]
AFTER = ("duckdb.after_commit", "parquet.after_rename", "bucket.after_put")
TABLE = replace(world.TABLE, keep_versions=2)
DAY = world.days(1)
KEY = DAY.partitions[0].key


def write(backend: str, folder: Path, version: int, fault: str = "") -> None:
    if fault:
        os.environ["ETL_FAULT"] = fault
    world.open_store(backend, folder).replace(TABLE, DAY, world.rows(DAY, version), Request("a run"))


def kept(backend: str, folder: Path) -> list[int]:
    """What each kept version holds; fails for one that is torn."""
    store = world.open_store(backend, folder)

    def content(version: Version) -> int:
        rows = store.arrow(store.read_version(TABLE, KEY, version.sequence))
        [number] = set(rows.column("version").to_pylist())
        assert rows.num_rows == version.rows == world.ROWS
        return int(number)

    return [content(version) for version in store.versions(TABLE, KEY)]


@pytest.mark.parametrize(("backend", "step"), [(backend, step) for backend, steps in STEPS.items() for step in steps])
def test_a_kill_leaves_the_versions_of_before_or_of_after(backend: str, step: str, tmp_path: Path) -> None:
    for version in (1, 2, 3):
        write(backend, tmp_path, version)
    assert world.finish(write, backend, tmp_path, 4, f"{step}=kill") == -signal.SIGKILL
    there = 4 if step in AFTER else 3
    assert list(world.versions(backend, tmp_path, DAY).values()) == [there]
    found = kept(backend, tmp_path)
    # The lake lets go of the oldest one after its rename: a kill before that leaves one too many, never one too few.
    assert found[-2:] == [there - 2, there - 1] and len(found) <= 3
    for _ in range(2):
        write(backend, tmp_path, 5)
        assert kept(backend, tmp_path) == [there - 1, there]
    assert world.leftovers(tmp_path) == []


@pytest.mark.parametrize("backend", STEPS)
def test_a_disk_that_is_full_leaves_everything_as_it_was(backend: str, tmp_path: Path) -> None:
    for version in (1, 2):
        write(backend, tmp_path, version)
    assert world.finish(write, backend, tmp_path, 3, f"{backend}.version_kept=full") == 1
    assert list(world.versions(backend, tmp_path, DAY).values()) == [2]
    assert kept(backend, tmp_path) == [1]
    write(backend, tmp_path, 3)
    assert kept(backend, tmp_path) == [1, 2]
    assert world.leftovers(tmp_path) == []
