"""Writers: whether some process still has a file open for writing, as far as this machine can tell.

Belongs here: asking the kernel. Does not belong here: what to do about a file that is being written (`scan`,
`private_copy`), or files whose writer nobody can see (`kept`).

A read lease (Linux, fcntl(2) F_SETLEASE) is refused while the file is open for writing, and is given back at once. It
answers for a local file system and for files of our own or with CAP_LEASE. Where it cannot answer, `/proc` shows the
open files of the processes that this user may look into. A writer on another host, and one of another user where we
are not root, is seen by neither.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat as kinds
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Literal

_LOCAL = frozenset(("btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"))
"""File systems on which a refused lease means an open writer. NFS and CIFS refuse one for reasons of their own."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Writers:
    """Who writes, for one batch of files: the list of open files is read at most once, and only where it is needed."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc

    def have(self, descriptor: int) -> bool:
        """Whether the regular file behind this descriptor (opened for reading only) is known to be open for writing.

        Never blocks, changes nothing. False may also mean that nobody here can tell.
        """
        answer = _asked_by_lease(descriptor)
        if answer == "free":
            return False
        stat = os.fstat(descriptor)
        if answer == "written" and self._types.get(stat.st_dev, "") in _LOCAL:
            return True
        return (stat.st_dev, stat.st_ino) in self._written

    def have_path(self, path: str) -> bool:
        """The same for a path; False for what is gone, is no regular file, or may not be read: others say so."""
        try:
            descriptor = os.open(path, _READ)
        except OSError:
            return False
        try:
            return kinds.S_ISREG(os.fstat(descriptor).st_mode) and self.have(descriptor)
        finally:
            os.close(descriptor)

    @cached_property
    def _types(self) -> dict[int, str]:
        """The type of the file system of each device, as the mount table has it."""
        found: dict[int, str] = {}
        with suppress(OSError):
            for line in Path(self._proc, "self/mountinfo").read_text("utf-8", "replace").splitlines():
                fields, _, rest = line.partition(" - ")
                major, _, minor = fields.split()[2].partition(":")
                found[os.makedev(int(major), int(minor))] = rest.split()[0]
        return found

    @cached_property
    def _written(self) -> frozenset[tuple[int, int]]:
        """Device and inode of every regular file that some process has open for writing."""
        return frozenset(_written_files(self._proc))


def _asked_by_lease(descriptor: int) -> Literal["free", "written", "unknown"]:
    if not hasattr(fcntl, "F_SETLEASE"):
        return "unknown"
    try:
        # Whoever opens the file before the lease is given back makes the kernel send a signal: one that does nothing.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return "written" if error.errno == errno.EAGAIN else "unknown"
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return "free"


def _written_files(proc: str) -> Iterator[tuple[int, int]]:
    """The link of an open file has the permissions it was opened with, so that few of them have to be followed."""
    for process in _names(proc):
        if not process.isdigit():
            continue
        folder = f"{proc}/{process}/fd"
        for number in _names(folder):
            with suppress(OSError):
                if os.lstat(f"{folder}/{number}").st_mode & kinds.S_IWUSR:
                    file = os.stat(f"{folder}/{number}")
                    if kinds.S_ISREG(file.st_mode):
                        yield file.st_dev, file.st_ino


def _names(folder: str) -> list[str]:
    """What is in a folder of `/proc`; nothing where the process has ended or is another user's."""
    with suppress(OSError), os.scandir(folder) as entries:
        return [entry.name for entry in entries]
    return []
