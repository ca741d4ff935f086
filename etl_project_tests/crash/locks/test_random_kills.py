"""The task lock among many processes that take at random, and are killed at random: never two inside."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from etl_project.exclusion.jobs import Job, Locks
from etl_project_tests.crash.locks.holders import Child, is_free
from etl_project_tests.crash.locks.places import File, Place


def alive(pid: int) -> bool:
    """Whether there is such a process, and not only what is left of one. It may go at any moment of the asking."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def witnessed_rounds(place: Place, witness: Path, seed: int, rounds: int) -> Callable[[Connection], None]:
    """Take random jobs and leave a mark for each that only one process can leave (a symlink: made once, with its text).

    A mark of a process that is dead may be replaced: that one was killed. Any other mark is somebody inside.
    """

    def mark(job: Job) -> None:
        spot = witness / str(job[1])
        while True:
            try:
                spot.symlink_to(str(os.getpid()))
                return
            except FileExistsError:
                other = int(os.readlink(spot))
                if alive(other):
                    raise
                spot.unlink()

    def work(pipe: Connection) -> None:
        dice = random.Random(seed)
        for number in range(rounds):
            jobs: list[Job] = [("orders", str(n)) for n in dice.sample(range(6), dice.randint(1, 4))]
            with place.locks().take(f"run {seed}.{number}", jobs, 120) as lease:
                for job in jobs:
                    mark(job)
                time.sleep(dice.uniform(0, 0.002))
                lease.check()
                for job in jobs:
                    (witness / str(job[1])).unlink()
        pipe.send("done")

    return work


def test_eight_processes_never_hold_one_job_together(
    place: Place, lock: Locks, tmp_path: Path, start: Callable[..., Child]
) -> None:
    witness = tmp_path / "witness"
    witness.mkdir()
    rounds = 12 if isinstance(place, File) else 3  # Over the network each round waits longer for the others.
    children = [start(witnessed_rounds(place, witness, seed, rounds=rounds)) for seed in range(8)]
    assert [child.says() for child in children] == ["done"] * 8
    assert list(witness.iterdir()) == []
    assert is_free(lock, *[("orders", str(n)) for n in range(6)])


def kill_at_random(place: Place, witness: Path, start: Callable[..., Child], kills: int, seed: int) -> None:
    """Eight workers without end; one after the other is killed at a random moment and replaced."""
    witness.mkdir()
    dice = random.Random(seed)
    seeds = itertools.count(1000 * seed)
    children = [start(witnessed_rounds(place, witness, next(seeds), rounds=10_000)) for _ in range(8)]
    for _ in range(kills):
        time.sleep(dice.uniform(0, 0.1))
        victim = dice.randrange(len(children))
        assert children[victim].process.is_alive(), f"a worker met another inside (seed {seed})"
        children[victim].kill()
        children[victim].process.join()
        children[victim] = start(witnessed_rounds(place, witness, next(seeds), rounds=10_000))
    for child in children:
        assert child.process.is_alive(), f"a worker met another inside (seed {seed})"
        child.kill()
    jobs = [("orders", str(n)) for n in range(6)]
    place.locks().take("last", jobs, 0).release()
    assert place.count("last") == 0


def test_random_kills_neither_let_two_in_nor_leave_anything_locked(
    place: Place, tmp_path: Path, start: Callable[..., Child]
) -> None:
    kill_at_random(place, tmp_path / "witness", start, kills=25, seed=1)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(2, 6))
def test_hundreds_of_random_kills_neither_let_two_in_nor_leave_anything_locked(
    place: Place, tmp_path: Path, start: Callable[..., Child], seed: int
) -> None:
    kill_at_random(place, tmp_path / "witness", start, kills=300, seed=seed)


@pytest.mark.stress
def test_eight_processes_in_hundreds_of_rounds_never_hold_one_job_together(
    place: Place, tmp_path: Path, start: Callable[..., Child]
) -> None:
    witness = tmp_path / "witness"
    witness.mkdir()
    children = [start(witnessed_rounds(place, witness, seed, rounds=300)) for seed in range(8)]
    assert [child.says() for child in children] == ["done"] * 8
