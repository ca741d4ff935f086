"""The task lock where the machine is in the way: a reboot, a second host, a disk that takes no writes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from etl_project.exclusion import sqlite_file
from etl_project.exclusion.locks import TaskLock, WrongHost
from etl_project_tests.crash.locks.holders import MONDAY, TUESDAY, Child, holding
from etl_project_tests.crash.locks.places import File


def test_processes_that_start_together_after_a_reboot_are_no_strangers(path: Path, start: Callable[..., Child]) -> None:
    for attempt in range(3):
        Path(f"{path}-host").write_text("earlier boot pid:[1]\nmachine\n")
        children = [
            start(holding(File(path), f"run {n}", [(f"asset {n}", str(attempt))], wait_seconds=240)) for n in range(6)
        ]
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
    path: Path, file_lock: TaskLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "CLAIM_SECONDS", 0.1)
    with container(path) as other:
        with file_lock.take("ours", [TUESDAY], 0):
            for _ in range(2):
                refusal = ask(other)
                assert refusal.startswith("refused: Run theirs waited 0 s.")
                assert "Neither can tell which of the other's processes live" in refusal
        assert ask(other) == "held"
        for _ in range(2):
            with pytest.raises(WrongHost, match="in use by another host or container"):
                file_lock.take("ours", [TUESDAY], 0)
        other.kill()
        with file_lock.take("ours", [MONDAY, ("items", None)], 10):
            assert File(path).count("theirs") == 0


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
