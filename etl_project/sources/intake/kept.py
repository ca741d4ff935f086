"""Kept: files that were taken in and stay where they are, name and inode, until they have been quiet.

Belongs here: the mark of a kept file, and which marks there are. Does not belong here: removing it (`removal`), or
when (`admit`).

A sender may still write to a file after it was taken: on another host, as another user, or by opening it again for
each piece. Such a file has to be found again as what it is, a newer version of itself. So a file that was read in full
is marked, `.kept/<identity>-<time>` in the drop folder, and left. As long as it is what the mark says, it does not
wait; as soon as it is not, it does. A mark holds nothing that cannot be lost: without it the file is read once more,
and found to be what the archive has.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

KEPT = ".kept"
"""The hidden folder in a drop folder that holds the marks."""


def identity(stat: os.stat_result, name: str) -> str:
    """Names exactly this file in exactly this state; the change time of an inode is the kernel's, nobody sets it."""
    told = hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()
    return f"{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ctime_ns}-{told}"


def marks(folder: str) -> dict[str, int]:
    """When each marked file was taken (ns since the epoch), by its identity."""
    found: dict[str, int] = {}
    for mark in _names(f"{folder}/{KEPT}"):
        which, _, taken_ns = mark.rpartition("-")
        if which and taken_ns.isdigit():
            found[which] = int(taken_ns)
    return found


class Marks:
    """The marks of one drop folder for those who take files in: read once, then kept up to date by `keep`.

    Several threads may hold it, each with files of its own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / KEPT
        self._of_inode: dict[str, list[str]] = {}
        for mark in _names(os.fspath(self._folder)):
            self._of_inode.setdefault(mark.partition("-")[0], []).append(mark)

    def keep(self, which: str, name: str, taken_ns: int) -> None:
        """Mark the file of this identity as taken in under this name. A kill leaves it marked or not.

        Marks of what the file was before stay for as long as any other: by them it is known under a new name, too.
        """
        self._folder.mkdir(exist_ok=True)
        mark = f"{which}-{taken_ns}"
        (self._folder / mark).write_bytes(os.fsencode(name))
        self._of_inode.setdefault(which.partition("-")[0], []).append(mark)

    def earlier_names(self, inode: int) -> list[str]:
        """The names under which this inode was taken in before, the newest first."""
        found = sorted(self._of_inode.get(str(inode), ()), key=lambda mark: int(mark.rpartition("-")[2]), reverse=True)
        return [name for name in map(self._name, found) if name]

    def _name(self, mark: str) -> str:
        with suppress(FileNotFoundError):
            return os.fsdecode((self._folder / mark).read_bytes())
        return ""


def forget(folder: Path, gone: Iterable[tuple[str, int]]) -> None:
    """Remove the marks of these identities and times; what is still there as such waits again."""
    for which, taken_ns in gone:
        (folder / KEPT / f"{which}-{taken_ns}").unlink(missing_ok=True)


def _names(folder: str) -> Iterator[str]:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        yield from (entry.name for entry in entries)
