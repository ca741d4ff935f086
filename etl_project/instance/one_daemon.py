"""One daemon: a second `dagster dev` on the same data folder is told so at its start, in one line, and stops.

Dagster's daemons only notice each other by their heartbeats, and complain for as long as both run. Belongs here: the
lock that a daemon holds for as long as it lives, and the look at it. Everything else that opens the instance (runs,
`etl`, the web server) is in nobody's way.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import psutil

from etl_project import utc

FILE = "daemon.lock"


def refuse_a_second(home: Path, command: Sequence[str] = tuple(sys.argv)) -> bool:
    """Return for a process that may work here; a daemon keeps the lock from then on, until it ends.

    Gives whether this process has just become the daemon. Raises click.ClickException, which Dagster's commands print
    as one line, where a daemon is at work already.
    """
    if _is_daemon(command):
        return _hold(home)
    if _is_dev(command) and (other := _holder(home)) is not None:
        raise _second(home, other)
    return False


def _is_dev(command: Sequence[str]) -> bool:
    program = Path(command[0])
    return [*command[1:2]] == ["dev"] and (program.name in ("dagster", "dg") or program.parent.name == "dagster")


def _is_daemon(command: Sequence[str]) -> bool:
    program = Path(command[0])
    return "run" in command[1:] and (program.name == "dagster-daemon" or program.parent.name == "_daemon")


def _hold(home: Path) -> bool:
    """Take the lock for the life of this process: the descriptor is never closed, and the kernel frees it.

    False where it has it already.
    """
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = _noted(descriptor)
        os.close(descriptor)
        if other.get("pid") != os.getpid():  # This process may open its instance more than once.
            raise _second(home, other) from None
        return False
    note = {"pid": os.getpid(), "parent": os.getppid(), "since": utc.now().isoformat(timespec="seconds")}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(note).encode(), 0)
    return True


def _holder(home: Path) -> dict[str, object] | None:
    """What the daemon that holds the lock noted of itself; None where none does."""
    try:
        descriptor = os.open(home / FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _noted(descriptor)
    finally:
        os.close(descriptor)


def _noted(descriptor: int) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads(os.pread(descriptor, 4096, 0))
        return found
    except ValueError:  # It has the lock, and is about to write.
        return {}


def _second(home: Path, other: dict[str, object]) -> click.ClickException:
    parent = _command(other.get("parent"))
    whose = f", started by process {other['parent']} ({parent})" if "dev" in parent.split() else ""
    return click.ClickException(
        f"Dagster's daemon is at work on {home} already: process {other.get('pid', 'unknown')}{whose}, "
        f"since {other.get('since', 'just now')}. Use its UI, or stop it first; to run another beside it, "
        "give that one its own ETL_DATA_DIR."
    )


def _command(pid: object) -> str:
    try:
        return shlex.join(psutil.Process(int(str(pid))).cmdline()[-4:])
    except (psutil.Error, ValueError):
        return ""
