"""Processes that are killed at random moments while several of them rewrite the same and different days."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from etl_project_tests.contracts import world
from etl_project_tests.contracts.backends import BACKENDS as ALL

BACKENDS = [name for name in ALL if name != "duckdb-lost-commit-answer"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_few_kills_at_random_moments_leave_whole_days(backend: str, tmp_path: Path) -> None:
    kill_at_random(backend, tmp_path, kills=8, seed=1)


@pytest.mark.stress
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", BACKENDS)
def test_three_hundred_kills_at_random_moments_leave_whole_days(backend: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("ETL_CRASH_SEED", "1"))
    print(f"ETL_CRASH_SEED={seed}")
    kill_at_random(backend, tmp_path, kills=300, seed=seed)


def kill_at_random(backend: str, folder: Path, kills: int, seed: int) -> None:
    """Three writers at a time over eight days; each victim is killed after a random time and another one starts."""
    chance = random.Random(seed)
    scope = world.days(8)
    world.write(backend, folder, scope, 0)

    def another(version: int) -> world.BaseProcess:
        first = chance.randrange(6)
        return world.start(world.keep_writing, backend, folder, world.days(3, first), version, 10**6)

    writers = [another(n) for n in range(3)]
    for kill in range(kills):
        time.sleep(chance.uniform(0.0, 0.25))
        victim = writers.pop(chance.randrange(len(writers)))
        assert victim.is_alive(), f"a writer ended by itself with {victim.exitcode}"
        os.kill(victim.pid or 0, signal.SIGKILL)
        victim.join()
        writers.append(another(kill + 3))
        if kill % 10 == 9:
            world.versions(backend, folder, scope)
    for writer in writers:
        writer.kill()
        writer.join()
    assert len(world.versions(backend, folder, scope)) == 8
    world.records_agree(backend, folder, scope)
    world.write(backend, folder, scope, 10**6)
    assert set(world.versions(backend, folder, scope).values()) == {10**6}
    assert world.leftovers(folder) == []
