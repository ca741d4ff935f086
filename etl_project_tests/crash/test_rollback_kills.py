"""A rollback killed at any step: a day holds the bad rows or the good ones, and going back again ends right."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from etl_project.declare.daily_table import daily
from etl_project.proofs import Stored, rollback
from etl_project.storage.contract import Request
from etl_project_tests.contracts import world
from etl_project_tests.crash.test_version_kills import AFTER, STEPS

TABLE = replace(world.TABLE, keep_versions=2)
DAYS = world.days(2)
KEYS = [partition.key for partition in DAYS.partitions]


def target(backend: str, folder: Path) -> Stored:
    return Stored("orders", TABLE, daily(date(2024, 1, 1)), world.open_store(backend, folder))


def write(backend: str, folder: Path, version: int) -> None:
    request = Request("a run", "code", dict.fromkeys(KEYS, f"inputs {version}"))
    world.open_store(backend, folder).replace(TABLE, DAYS, world.rows(DAYS, version), request)


def go_back(backend: str, folder: Path, fault: str = "") -> None:
    if fault:
        os.environ["ETL_FAULT"] = fault
    found = target(backend, folder)
    rollback.roll_back(found, rollback.plan(found, KEYS), "going back", "bad", lambda: None)


@pytest.mark.parametrize(("backend", "step"), [(backend, step) for backend, steps in STEPS.items() for step in steps])
def test_a_kill_leaves_whole_days_and_going_back_again_ends_right(backend: str, step: str, tmp_path: Path) -> None:
    write(backend, tmp_path, 1)
    write(backend, tmp_path, 2)
    nth = ":2" if backend in ("parquet", "bucket") else ""  # A day there is a write of its own: the second one.
    assert world.finish(go_back, backend, tmp_path, f"{step}{nth}=kill") == -signal.SIGKILL
    there = list(world.versions(backend, tmp_path, DAYS).values())
    if backend == "duckdb":
        assert there == ([1, 1] if step in AFTER else [2, 2])
    else:
        assert there == ([1, 1] if step in AFTER else [1, 2])
    if there == [1, 1]:
        with pytest.raises(rollback.CannotRollBack, match="rolled back to commit 1 already"):
            go_back(backend, tmp_path)
    else:
        go_back(backend, tmp_path)
        assert world.leftovers(tmp_path) == []
    assert list(world.versions(backend, tmp_path, DAYS).values()) == [1, 1]
    assert sorted(str(one.partition) for one in target(backend, tmp_path).store.pinned(["orders"])) == KEYS
