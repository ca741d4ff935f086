"""Processes that hold the task lock and do as they are told."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection

from etl_project import faults
from etl_project.exclusion.jobs import Job, LockBusy, LockLost, Locks
from etl_project_tests.crash.locks.places import Place

FORK = multiprocessing.get_context("fork")
SPAWN = multiprocessing.get_context("spawn")

MONDAY, TUESDAY = ("orders", "2024-01-01"), ("orders", "2024-01-02")
MANY: list[Job] = [(f"asset {n % 7}", f"day {n // 7}") for n in range(350)]


class Child:
    """A forked process that does `work(pipe)`; what it sends is asked for with `says`."""

    def __init__(self, work: Callable[[Connection], None], **environ: str) -> None:
        self.pipe, theirs = FORK.Pipe()

        def body() -> None:
            self.pipe.close()
            os.environ.update(environ)
            faults._reached = itertools.count(1)
            work(theirs)

        self.process = FORK.Process(target=body)
        self.process.start()
        theirs.close()

    def says(self) -> object:
        return self.pipe.recv()

    def tell(self, word: str) -> None:
        self.pipe.send(word)

    def kill(self) -> None:
        """SIGKILL, and return once it is dead; it stays a zombie, as a killed step of a busy parent does."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    def exit_code(self) -> int | None:
        self.process.join()
        return self.process.exitcode


def holding(place: Place, run_id: str, jobs: list[Job], wait_seconds: float = 30) -> Callable[[Connection], None]:
    """Take, say so, then do as told: `check`, `release`."""

    def work(pipe: Connection) -> None:
        try:
            lease = place.locks().take(run_id, jobs, wait_seconds, say=lambda text: pipe.send(f"waits: {text}"))
        except LockBusy as busy:
            pipe.send(f"busy: {busy}")
            return
        pipe.send("held")
        while (word := pipe.recv()) != "release":
            try:
                lease.check()
                pipe.send("still held")
            except LockLost as lost:
                pipe.send(f"{word}: {lost}")
        lease.release()
        pipe.send("released")

    return work


def is_free(lock: Locks, *jobs: Job) -> bool:
    try:
        lock.take("probe", jobs, 0).release()
    except LockBusy:
        return False
    return True
