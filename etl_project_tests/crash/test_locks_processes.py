"""The task lock between real processes: waiting, SIGKILL at every step, forks, spawns, and a second host."""

from __future__ import annotations

import fcntl
import itertools
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from etl_project import faults
from etl_project.exclusion import sqlite_file
from etl_project.exclusion.locks import Job, LockBusy, LockLost, TaskLock, WrongHost
from etl_project.exclusion.processes import this_process
from etl_project.failures import EtlError

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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sqlite_file.sqlite"


@pytest.fixture
def lock(path: Path) -> TaskLock:
    return TaskLock(path)


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def begin(work: Callable[[Connection], None], **environ: str) -> Child:
        children.append(Child(work, **environ))
        return children[-1]

    yield begin
    for child in children:
        child.process.kill()
        child.process.join()


def holding(path: Path, run_id: str, jobs: list[Job], wait_seconds: float = 30) -> Callable[[Connection], None]:
    """Take, say so, then do as told: `check`, `release`."""

    def work(pipe: Connection) -> None:
        try:
            lease = TaskLock(path).take(run_id, jobs, wait_seconds, say=lambda text: pipe.send(f"waits: {text}"))
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


def is_free(lock: TaskLock, *jobs: Job) -> bool:
    try:
        lock.take("probe", jobs, 0).release()
    except LockBusy:
        return False
    return True


def count(path: Path, run_id: str) -> int:
    """How many jobs the run holds, read from the file without any help; the file itself has to be sound."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return db.execute("SELECT count(*) FROM task_lock WHERE run_id = ?", (run_id,)).fetchone()[0]


def test_a_second_process_waits_for_the_first_and_then_gets_the_job(path: Path, start: Callable[..., Child]) -> None:
    first = start(holding(path, "one", [MONDAY]))
    assert first.says() == "held"
    second = start(holding(path, "two", [TUESDAY, MONDAY]))
    waiting = str(second.says())
    assert waiting.startswith("waits: Run two waits up to 30 s.")
    assert f"held by run one (process {first.process.pid}, since " in waiting
    first.tell("release")
    assert first.says() == "released"
    assert second.says() == "held"


def test_a_process_that_waited_in_vain_says_for_whom(path: Path, start: Callable[..., Child]) -> None:
    first = start(holding(path, "one", [MONDAY]))
    assert first.says() == "held"
    second = start(holding(path, "two", [MONDAY], wait_seconds=0.2))
    second.says()
    assert f"Run two waited 0.2 s. {list(MONDAY)}".replace("'", '"') in (busy := str(second.says()))
    assert f"held by run one (process {first.process.pid}, since " in busy
    assert "retrying helps" in busy


def test_a_killed_holder_loses_its_jobs_at_once(path: Path, lock: TaskLock, start: Callable[..., Child]) -> None:
    for _ in range(2):
        holder = start(holding(path, "one", MANY))
        assert holder.says() == "held"
        assert not is_free(lock, MANY[0])
        holder.kill()
        lock.take("two", MANY, 0).release()
        assert count(path, "one") == count(path, "two") == 0


def test_a_holder_that_was_taken_over_must_not_commit(path: Path, lock: TaskLock, start: Callable[..., Child]) -> None:
    holder = start(holding(path, "one", [MONDAY]))
    assert holder.says() == "held"
    holder.tell("check")
    assert holder.says() == "still held"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE task_lock_holder SET started_at = '1'")  # Its pid now looks like somebody else's.
    with lock.take("two", [MONDAY], 0) as lease:
        holder.tell("stale")
        assert str(holder.says()).startswith("stale: Run one no longer holds")
        holder.tell("release")
        assert holder.says() == "released"
        lease.check()
        assert not is_free(lock, MONDAY)


def test_a_stopped_process_is_alive_and_keeps_its_jobs(path: Path, lock: TaskLock, start: Callable[..., Child]) -> None:
    holder = start(holding(path, "one", [MONDAY]))
    assert holder.says() == "held"
    assert holder.process.pid is not None
    os.kill(holder.process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, holder.process.pid, os.WSTOPPED)
    assert not is_free(lock, MONDAY)


def test_a_run_keeps_its_jobs_while_one_of_its_processes_lives(
    path: Path, lock: TaskLock, start: Callable[..., Child]
) -> None:
    steps = [start(holding(path, "one", MANY)) for _ in range(3)]
    assert [step.says() for step in steps] == ["held"] * 3
    steps[0].kill()
    assert not is_free(lock, MANY[-1])
    steps[1].tell("release")
    assert steps[1].says() == "released"
    assert not is_free(lock, MANY[-1])
    steps[2].tell("check")
    assert steps[2].says() == "still held"
    steps[2].tell("release")
    assert steps[2].says() == "released"
    assert count(path, "one") == 0  # Though the killed step never released.


def test_a_run_whose_processes_are_all_killed_holds_nothing(
    path: Path, lock: TaskLock, start: Callable[..., Child]
) -> None:
    steps = [start(holding(path, "one", MANY)) for _ in range(2)]
    assert [step.says() for step in steps] == ["held"] * 2
    for step in steps:
        assert not is_free(lock, MANY[0])
        step.kill()
    assert is_free(lock, *MANY)


@pytest.mark.parametrize(("step", "left"), [("locks.before_commit", 0), ("locks.after_commit", len(MANY))])
def test_a_kill_while_taking_leaves_all_or_none_and_the_next_taker_gets_all(
    path: Path, lock: TaskLock, start: Callable[..., Child], step: str, left: int
) -> None:
    lock.take("before", MANY[:1], 0).release()
    for _ in range(2):
        taker = start(holding(path, "one", MANY), ETL_FAULT=f"{step}=kill")
        assert taker.exit_code() == -signal.SIGKILL
        assert count(path, "one") == left
        with lock.take("two", MANY, 0) as lease:
            lease.check()
            assert (count(path, "one"), count(path, "two")) == (0, len(MANY))


def test_a_kill_in_the_very_first_take_leaves_a_file_that_works(
    path: Path, lock: TaskLock, start: Callable[..., Child]
) -> None:
    assert start(holding(path, "one", MANY), ETL_FAULT="locks.before_commit=kill").exit_code() == -signal.SIGKILL
    lock.take("two", MANY, 0).release()


def test_a_kill_while_releasing_leaves_the_jobs_to_the_next_taker(
    path: Path, lock: TaskLock, start: Callable[..., Child]
) -> None:
    for _ in range(2):
        holder = start(holding(path, "one", MANY), ETL_FAULT="locks.before_release=kill")
        assert holder.says() == "held"
        holder.tell("release")
        assert holder.exit_code() == -signal.SIGKILL
        assert count(path, "one") == len(MANY)
        lock.take("two", MANY, 0).release()


@pytest.mark.parametrize("kind", ["error", "full"])
@pytest.mark.parametrize("step", ["locks.before_commit", "locks.after_commit"])
def test_an_error_while_taking_leaves_nothing_taken_though_the_process_lives(
    path: Path, lock: TaskLock, start: Callable[..., Child], step: str, kind: str
) -> None:
    def work(pipe: Connection) -> None:
        for _ in range(2):  # Only the first time is armed.
            try:
                TaskLock(path).take("one", MANY, 0).release()
                pipe.send("taken")
            except EtlError as error:
                pipe.send(type(error).__name__)
        pipe.recv()

    child = start(work, ETL_FAULT=f"{step}={kind}")
    assert [child.says(), child.says()] == ["StateUnavailable", "taken"]
    lock.take("two", MANY, 0).release()


def test_a_forked_child_neither_holds_nor_releases_what_its_parent_took(
    path: Path, lock: TaskLock, start: Callable[..., Child]
) -> None:
    lease = lock.take("one", [MONDAY], 0)

    def work(pipe: Connection) -> None:
        lease.check()
        lease.release()
        pipe.send("left")
        pipe.recv()

    child = start(work)
    assert child.says() == "left"
    lease.check()
    assert not is_free(lock, MONDAY)
    with Path(f"{path}-host").open() as host_file, pytest.raises(BlockingIOError):
        fcntl.flock(host_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lease.release()
    assert is_free(lock, MONDAY)  # The child still lives.


def hold_in_a_spawned_process(lock: TaskLock, pipe: Connection) -> None:
    with lock.take("one", [MONDAY], 0):
        pipe.send(this_process().pid)
        pipe.recv()


def test_a_spawned_process_shares_the_jobs_of_its_run(lock: TaskLock) -> None:
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=hold_in_a_spawned_process, args=(lock, theirs))
    with lock.take("one", [MONDAY], 0):
        process.start()
        assert ours.recv() == process.pid
    assert not is_free(lock, MONDAY)
    process.kill()
    process.join()
    assert is_free(lock, MONDAY)


def test_two_runs_that_ask_for_the_same_jobs_in_another_order_both_get_through(
    path: Path, start: Callable[..., Child]
) -> None:
    def rounds(run_id: str, jobs: list[Job]) -> Callable[[Connection], None]:
        def work(pipe: Connection) -> None:
            for _ in range(20):
                with TaskLock(path).take(run_id, jobs, 60) as lease:
                    lease.check()
            pipe.send("done")

        return work

    children = [
        start(rounds("one", [MONDAY, TUESDAY, *MANY])),
        start(rounds("two", [*reversed(MANY), TUESDAY, MONDAY])),
    ]
    assert [child.says() for child in children] == ["done", "done"]


def test_processes_that_start_together_after_a_reboot_are_no_strangers(path: Path, start: Callable[..., Child]) -> None:
    for attempt in range(3):
        Path(f"{path}-host").write_text("earlier boot pid:[1]\nmachine\n")
        children = [start(holding(path, f"run {n}", [(f"asset {n}", str(attempt))], wait_seconds=240)) for n in range(6)]
        assert [[said for said in iter(child.says, "held") if "waits" not in str(said)] for child in children] == [
            []
        ] * 6
        for child in children:
            child.kill()


IN_A_CONTAINER = """
import sys
from pathlib import Path
from etl_project.exclusion import sqlite_file
from etl_project.exclusion.locks import TaskLock, WrongHost
sqlite_file.CLAIM_SECONDS = 0.1
for line in sys.stdin:
    try:
        lease = TaskLock(Path(sys.argv[1])).take("theirs", [("orders", "2024-01-01"), ("items", None)], 0)
        print("held", flush=True)
    except WrongHost as refusal:
        print("refused:", refusal, flush=True)
"""


@contextmanager
def container(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in a pid namespace of its own, which sees other pids for the same processes."""
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    with subprocess.Popen(
        [*command, sys.executable, "-c", IN_A_CONTAINER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def ask(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        process.stdin.write("take\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass
    if answer := process.stdout.readline().strip():
        return answer
    pytest.skip(f"no pid namespaces here: {process.stderr.read().strip()}")


def test_a_second_container_is_refused_while_one_works_and_takes_over_when_it_is_gone(
    path: Path, lock: TaskLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "CLAIM_SECONDS", 0.1)
    with container(path) as other:
        with lock.take("ours", [TUESDAY], 0):
            for _ in range(2):
                refusal = ask(other)
                assert refusal.startswith("refused: Run theirs waited 0 s.")
                assert "Neither can tell which of the other's processes live" in refusal
        assert ask(other) == "held"
        for _ in range(2):
            with pytest.raises(WrongHost, match="in use by another host or container"):
                lock.take("ours", [TUESDAY], 0)
        other.kill()
        with lock.take("ours", [MONDAY, ("items", None)], 10):
            assert count(path, "theirs") == 0


READ_ONLY = """
import os, subprocess, sys
from pathlib import Path
from etl_project.exclusion.locks import TaskLock
folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
TaskLock(folder / "sqlite_file.sqlite").take("one", [("orders", None)], 0).release()
if sys.argv[2] == "read-only":
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
else:
    subprocess.run(["mount", "-o", "remount,size=160k", folder], check=True)
    folder.joinpath("filler").write_bytes(b"")
    try:
        with folder.joinpath("filler").open("wb", buffering=0) as filler:
            while filler.write(b"x" * 4096): pass
    except OSError:
        pass
jobs = [(f"asset {n}", None) for n in range(3000)]
for _ in range(2):
    try:
        TaskLock(folder / "sqlite_file.sqlite").take("two", jobs, 0)
    except Exception as error:
        print(type(error).__name__, error)
if sys.argv[2] == "full":
    folder.joinpath("filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=100M", folder], check=True)
    with TaskLock(folder / "sqlite_file.sqlite").take("two", jobs, 0) as lease:
        lease.check()
        print("then taken")
"""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("read-only", ["StateUnusable", "StateUnusable"]),
        ("full", ["StateUnavailable", "StateUnavailable", "then"]),
    ],
)
def test_a_disk_that_takes_no_writes_is_one_clear_error(tmp_path: Path, kind: str, expected: list[str]) -> None:
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", READ_ONLY, str(tmp_path), kind]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare:" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip(f"no user namespaces here: {ran.stderr.strip()}")
    assert [line.split()[0] for line in ran.stdout.splitlines()] == expected, ran.stdout + ran.stderr


def alive(pid: int) -> bool:
    """Whether there is such a process, and not only what is left of one. It may go at any moment of the asking."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def witnessed_rounds(path: Path, witness: Path, seed: int, rounds: int) -> Callable[[Connection], None]:
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
            with TaskLock(path).take(f"run {seed}.{number}", jobs, 120) as lease:
                for job in jobs:
                    mark(job)
                time.sleep(dice.uniform(0, 0.002))
                lease.check()
                for job in jobs:
                    (witness / str(job[1])).unlink()
        pipe.send("done")

    return work


def test_eight_processes_never_hold_one_job_together(
    path: Path, lock: TaskLock, tmp_path: Path, start: Callable[..., Child]
) -> None:
    witness = tmp_path / "witness"
    witness.mkdir()
    children = [start(witnessed_rounds(path, witness, seed, rounds=12)) for seed in range(8)]
    assert [child.says() for child in children] == ["done"] * 8
    assert list(witness.iterdir()) == []
    assert is_free(lock, *[("orders", str(n)) for n in range(6)])


def kill_at_random(path: Path, witness: Path, start: Callable[..., Child], kills: int, seed: int) -> None:
    """Eight workers without end; one after the other is killed at a random moment and replaced."""
    witness.mkdir()
    dice = random.Random(seed)
    seeds = itertools.count(1000 * seed)
    children = [start(witnessed_rounds(path, witness, next(seeds), rounds=10_000)) for _ in range(8)]
    for _ in range(kills):
        time.sleep(dice.uniform(0, 0.1))
        victim = dice.randrange(len(children))
        assert children[victim].process.is_alive(), f"a worker met another inside (seed {seed})"
        children[victim].kill()
        children[victim].process.join()
        children[victim] = start(witnessed_rounds(path, witness, next(seeds), rounds=10_000))
    for child in children:
        assert child.process.is_alive(), f"a worker met another inside (seed {seed})"
        child.kill()
    jobs = [("orders", str(n)) for n in range(6)]
    TaskLock(path).take("last", jobs, 0).release()
    assert count(path, "last") == 0


def test_random_kills_neither_let_two_in_nor_leave_anything_locked(
    path: Path, tmp_path: Path, start: Callable[..., Child]
) -> None:
    kill_at_random(path, tmp_path / "witness", start, kills=25, seed=1)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(2, 6))
def test_hundreds_of_random_kills_neither_let_two_in_nor_leave_anything_locked(
    path: Path, tmp_path: Path, start: Callable[..., Child], seed: int
) -> None:
    kill_at_random(path, tmp_path / "witness", start, kills=300, seed=seed)


@pytest.mark.stress
def test_eight_processes_in_hundreds_of_rounds_never_hold_one_job_together(
    path: Path, tmp_path: Path, start: Callable[..., Child]
) -> None:
    witness = tmp_path / "witness"
    witness.mkdir()
    children = [start(witnessed_rounds(path, witness, seed, rounds=300)) for seed in range(8)]
    assert [child.says() for child in children] == ["done"] * 8
