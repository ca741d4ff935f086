"""Private copy: exactly the file that was listed, hashed, durable, and out of every sender's reach.

Belongs here: copying a file that others may change at any moment, and cleaning up after killed processes. Does not
belong here: what the copy is good for (`admit`).

A copy, or a folder of copies, is locked by whoever makes it for as long as it is not in its place; what nobody holds
was left by a kill. Many small files share one folder, one lock, and the wait for the disk: a process may have 1,024
files open, and less than that should be in use at any time.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat as kinds
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal, NamedTuple

from etl_project import atomic
from etl_project.sources.intake import threads
from etl_project.sources.intake.scan import Entry, Waiting
from etl_project.sources.intake.writers import Writers

_PIECE_BYTES = 2**20


class Copy(NamedTuple):
    """A complete, flushed copy, the hash of its content, and what the file was when it had been read to its end.

    `content`: its bytes, where they are few."""

    path: Path
    sha256: str
    stat: os.stat_result
    content: bytes | None = None


Uncopied = Literal["vanished", "unsettled"]


@contextmanager
def made(entry: Entry | Waiting, folder: Path, writers: Writers) -> Iterator[Copy | Uncopied]:
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
def made_together(
    entries: Sequence[Entry | Waiting], folder: Path, writers: Writers
) -> Iterator[list[Copy | Uncopied | OSError]]:
    """As `made`, for small files: what came of each, in their order. They are flushed to the disk side by side."""
    atomic.make_folder(folder)
    with _locked_folder(folder) as own:
        copies = [_tried(entry, own / str(number), writers) for number, entry in enumerate(entries)]
        flushed = threads.side_by_side(_flushed, copies)
        yield flushed


def _tried(entry: Entry | Waiting, path: Path, writers: Writers) -> Copy | Uncopied | OSError:
    try:
        source = _descriptor(entry.path)
        if source is None:
            return "vanished"
        try:
            if not _is_as_listed(os.fstat(source), entry) or writers.have(source):
                return "unsettled"
            content = _read(source, entry.size)
            stat = os.fstat(source)
            if len(content) != entry.size or not _is_as_listed(stat, entry):
                return "unsettled"
        finally:
            os.close(source)
        _write(path, content)
        return Copy(path, hashlib.sha256(content).hexdigest(), stat, content)
    except OSError as error:
        return error


def _read(source: int, size: int) -> bytes:
    """So many bytes, and one more where there are more; fewer where the file ends before."""
    content = os.read(source, size + 1)
    while len(content) <= size and (piece := os.read(source, size + 1 - len(content))):
        content += piece
    return content


def _write(path: Path, content: bytes) -> None:
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(target, left) :]
    finally:
        os.close(target)


def _flushed(copy: Copy | Uncopied | OSError) -> Copy | Uncopied | OSError:
    if isinstance(copy, Copy):
        try:
            atomic.sync_file(copy.path)
        except OSError as error:
            return error
    return copy


@contextmanager
def _locked_folder(parent: Path) -> Iterator[Path]:
    """A new folder that no sweep touches while it is open, with all that is left in it gone afterwards."""
    folder = atomic.temporary_sibling(parent / "lot")
    while True:
        folder.mkdir()
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # A sweep came between.
        with suppress(OSError):  # Without locks there is no sweep either (see there).
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            break
        os.close(lock)
    try:
        yield folder
    finally:
        _remove(os.fspath(folder))
        os.close(lock)


def _remove(path: str) -> None:
    """Remove a copy, or a folder of copies."""
    with suppress(NotADirectoryError, FileNotFoundError), os.scandir(path) as entries:
        for entry in entries:
            os.unlink(entry.path)
        os.rmdir(path)
        return
    with suppress(FileNotFoundError):
        os.unlink(path)


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
            with suppress(OSError):
                _remove_unlocked(entry.path)


def _remove_unlocked(path: str) -> None:
    lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)
    finally:
        os.close(lock)


def begins_with(path: Path, beginning: Path) -> bool:
    """Whether the file holds the other one's bytes, and perhaps more after them."""
    with path.open("rb") as file, beginning.open("rb") as wanted:
        while piece := wanted.read(_PIECE_BYTES):
            if file.read(len(piece)) != piece:
                return False
    return True


def _open(path: str) -> IO[bytes] | None:
    """As `_descriptor`, as a file."""
    descriptor = _descriptor(path)
    return None if descriptor is None else os.fdopen(descriptor, "rb", buffering=0)


def _descriptor(path: str) -> int | None:
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
    return descriptor


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
