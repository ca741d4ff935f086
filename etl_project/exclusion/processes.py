"""Processes: an identity of a running process that survives the reuse of its pid.

Belongs here: who this process is, and whether the process that a record names still runs. Does not belong here: what
follows from its death; that is for whoever keeps the record (the task lock, the runs of dead processes).

A pid alone lies: the kernel hands it out again. The pair (pid, start time) does not, within one pid namespace of one
boot, so both travel along. On Linux the start time is the kernel's own count of ticks since boot: psutil's
`create_time()` is computed from the wall clock and moves when somebody sets it.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from etl_project.failures import Permanent


class ProcessesUnreadable(Permanent):
    """This process cannot see its own namespace's processes. Retrying does not help: /proc has to be mounted."""


@dataclass(frozen=True)
class Owner:
    """One process: `host` is the boot id (elsewhere than on Linux the host's name), `started_at` an opaque text."""

    host: str
    pid_namespace: str
    pid: int
    started_at: str

    def to_json(self) -> str:
        """A text for records and run tags; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Owner:
        """The owner that `to_json` wrote. Raises ValueError for any other text."""
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise ValueError(f"Not the record of a process: {text!r} ({error})") from None


def this_process() -> Owner:
    """The identity of the calling process; a forked child gets its own.

    Raises ProcessesUnreadable (retrying does not help) where /proc shows another pid namespace than ours.
    """
    host, pid_namespace = this_host()
    pid = os.getpid()
    if sys.platform == "linux" and os.readlink("/proc/self") != str(pid):
        raise ProcessesUnreadable(
            "/proc belongs to another pid namespace, so no process can be told dead or alive. Retrying does not help: "
            "mount /proc inside the namespace (unshare --mount-proc; containers do it by themselves)."
        )
    started_at = _started_at(pid)
    assert started_at is not None, "a process that runs this line is alive"
    return Owner(host, pid_namespace, pid, started_at)


def parent_process() -> Owner | None:
    """The identity of the process that started this one; None when it has ended or cannot be looked at."""
    pid = os.getppid()
    try:
        started_at = _started_at(pid)
    except PermissionError:
        return None
    return Owner(*this_host(), pid, started_at) if started_at is not None else None


def may_be_alive(owner: Owner) -> bool:
    """Like `is_alive`, but True for a process of another container of this machine: its pid means nothing here.

    An earlier boot is no other machine: a deployment whose records lie on this machine's disk has only one.
    """
    boot, pid_namespace = this_host()
    return is_alive(owner) or (owner.host == boot and owner.pid_namespace != pid_namespace)


def this_host() -> tuple[str, str]:
    """What the pids and start times of this process mean anything in: (boot id, pid namespace)."""
    if sys.platform == "linux":
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")
    else:
        return platform.node(), ""


def same_host(owner: Owner) -> bool:
    """Whether the owner ran in this boot and this pid namespace: only then does its pid mean anything here."""
    return (owner.host, owner.pid_namespace) == this_host()


def is_alive(owner: Owner) -> bool:
    """Whether exactly this process still runs here; a zombie does not, nor does another process with its pid.

    False for every process of an earlier boot or another host: where another host may still be at work on the same
    record, ask `same_host` first. In doubt (a process that we may not look at) the answer is True: to wait is safe.
    """
    if not same_host(owner):
        return False
    try:
        return _started_at(owner.pid) == owner.started_at
    except PermissionError:
        return True


def is_dead_here(owner: Owner) -> bool:
    """Whether this machine knows that the process is gone. False for one of another machine, or of an earlier boot.

    Elsewhere than on Linux a host is only a name, which two machines may share: there nothing is known.
    """
    return sys.platform == "linux" and same_host(owner) and not is_alive(owner)


if sys.platform == "linux":

    def _started_at(pid: int) -> str | None:
        """When the process started; None when it is gone or a zombie. PermissionError when it is hidden from us."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except ProcessLookupError:  # It ended between open and read.
            return None
        except FileNotFoundError:
            with suppress(ProcessLookupError):
                os.kill(pid, 0)
                raise PermissionError(f"process {pid} exists, but /proc does not show it (hidepid)") from None
            return None
        fields = stat.rpartition(")")[2].split()  # The name before it may contain spaces and brackets.
        state, started_at = fields[0], fields[19]
        return None if state in "ZX" else started_at

else:

    def _started_at(pid: int) -> str | None:
        try:
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
        except psutil.NoSuchProcess:
            return None
        except psutil.AccessDenied as denied:
            raise PermissionError(str(denied)) from denied
