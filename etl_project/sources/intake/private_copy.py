"""Private copy: exactly the file that was listed, hashed, durable, and out of every sender's reach.

Belongs here: copying a file that others may change at any moment, and cleaning up after killed processes. Does not
belong here: what the copy is good for (`admit`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat as kinds
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal, NamedTuple

from etl_project import atomic
from etl_project.sources.intake.scan import Entry, Waiting
from etl_project.sources.intake.writers import Writers

_PIECE_BYTES = 2**20


class Copy(NamedTuple):
    """A complete, flushed copy, the hash of its content, and what the file was when it had been read to its end."""

    path: Path
    sha256: str
    stat: os.stat_result


@contextmanager
def made(entry: Entry | Waiting, folder: Path, writers: Writers) -> Iterator[Copy | Literal["vanished", "unsettled"]]:
    """A durable copy of exactly the file that was listed, or why there is none: it has gone, has changed, or somebody
    has it open for writing. The copy is gone afterwards unless moved."""
    atomic.make_folder(folder)
    temporary = atomic.temporary_sibling(folder / entry.name.rpartition("/")[2])
    try:
        source = _open(entry.path)
        if source is None:
            yield "vanished"
            return
        with source, locked(temporary) as target:
            sha256 = None if writers.have(source.fileno()) else _copy_unchanged(source, target, entry)
            stat = os.fstat(source.fileno())
            if sha256 is None or not _is_as_listed(stat, entry):
                yield "unsettled"
                return
            target.flush()
            os.fsync(target.fileno())
            yield Copy(temporary, sha256, stat)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[IO[bytes]]:
    """A new file that no sweep touches while it is open; made again if one came between its making and its lock."""
    while True:
        with path.open("xb") as file:
            with suppress(OSError):  # Without locks there is no sweep either (see there).
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                yield file
                return


def sweep(folder: Path) -> None:
    """Remove the copies that killed processes have left: those whose lock nobody holds any longer.

    Where a file system has no locks nobody can tell, and nothing is removed.
    """
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(atomic.TEMPORARY_PREFIX):
                continue
            with suppress(OSError), Path(entry.path).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)


def begins_with(path: Path, beginning: Path) -> bool:
    """Whether the file holds the other one's bytes, and perhaps more after them."""
    with path.open("rb") as file, beginning.open("rb") as wanted:
        while piece := wanted.read(_PIECE_BYTES):
            if file.read(len(piece)) != piece:
                return False
    return True


def _open(path: str) -> IO[bytes] | None:
    """The file, or None when it is gone or no regular file any longer (no link is followed, no pipe waited for)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    if not kinds.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb", buffering=0)


def _copy_unchanged(source: IO[bytes], target: IO[bytes], entry: Entry | Waiting) -> str | None:
    """Copy and hash; None when the file is not the listed one, or changed while it was read."""
    digest = hashlib.sha256()
    if not _is_as_listed(os.fstat(source.fileno()), entry):
        return None
    copied = 0
    while piece := source.read(_PIECE_BYTES):
        digest.update(piece)
        target.write(piece)
        copied += len(piece)
        if copied > entry.size:
            return None
    if copied != entry.size or not _is_as_listed(os.fstat(source.fileno()), entry):
        return None
    return digest.hexdigest()


def _is_as_listed(stat: os.stat_result, entry: Entry | Waiting) -> bool:
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns) == (entry.inode, entry.size, entry.mtime_ns)
