"""Receive: one waiting file, from the drop folder into the archive or into quarantine. Judge, archive, remove.

Belongs here: the order of the steps, and that each of them can be repeated after a kill. Does not belong here: what
makes a file good (`judge`), the layouts (`archive`, `quarantine`), how a file leaves the drop folder (`claim`).

The bytes are read once, into a private copy on the archive's file system, while they are hashed; what was copied is
what is judged and what is kept, whatever a sender does meanwhile. The file leaves the drop folder only after its copy
is durable under its final name. A kill at any point leaves a temporary copy at most: the next call starts over and
ends in the same place.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat as kinds
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import IO, Literal, NamedTuple, get_args

from etl_project import faults, partitions
from etl_project.failures import EtlError, Transient
from etl_project.incoming import archive, claim, judge, names, quarantine
from etl_project.incoming.refused import Refused
from etl_project.incoming.scan import Entry, Unplaced, Waiting
from etl_project.incoming.spec import SourceSpec
from etl_project.storage import atomic

Outcome = Literal["accepted", "identical", "duplicate", "refused", "vanished", "unsettled"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

_PIECE_BYTES = 2**20
_ABANDONED_SECONDS = 60.0


class CannotReceive(Transient):
    """The system is in the way (permission, full disk). The file is where it was; retrying helps once it is mended."""


class Received(NamedTuple):
    """What became of one file. `rows` and `rejected` are counted where it was judged; `reason` says why it was not
    accepted. `vanished` and `unsettled` files (gone, or changed while read) were left alone."""

    name: str
    day: date | None
    outcome: Outcome
    rows: int | None = None
    rejected: int | None = None
    sha256: str | None = None
    reason: str | None = None


class Failed(NamedTuple):
    """A file that could not be received, and why; it is where it was."""

    waiting: Waiting
    error: EtlError


class Results(NamedTuple):
    """What became of many files, in the order in which they were given (files after a failed one of their day wait)."""

    received: tuple[Received, ...]
    failed: tuple[Failed, ...]


class _Copy(NamedTuple):
    path: Path
    sha256: str


def receive(
    waiting: Waiting, spec: SourceSpec, incoming_root: Path, archive_root: Path, quarantine_root: Path
) -> Received:
    """Take one waiting file in: afterwards it is in the archive or in quarantine, as a whole, and has left its place.

    Raises CannotReceive (retrying helps) when the system is in the way; the file is then where it was. Two calls for
    one day of one source must not run at the same time (the run's lock sees to that).
    """
    name, day = waiting.name, waiting.day
    with _receiving(waiting), _private_copy(waiting, archive_root / spec.name) as copy:
        if not isinstance(copy, _Copy):
            return Received(name, day, copy)
        result = _decide(copy, waiting, spec, archive_root, quarantine_root)
        faults.reach("incoming.after_archive")
        claim.remove(incoming_root / spec.name, waiting)
        return result


def refuse(
    unplaced: Unplaced, spec: SourceSpec, incoming_root: Path, archive_root: Path, quarantine_root: Path
) -> Received:
    """Take a file that belongs to no day into quarantine, with the reason. Raises and repeats like `receive`."""
    entry, why = unplaced
    expected = f"{' or '.join(spec.patterns)} with a date from {spec.start_date} on, at most a day ahead (UTC)"
    with _receiving(entry), _private_copy(entry, archive_root / spec.name) as copy:
        if not isinstance(copy, _Copy):
            return Received(entry.name, None, copy)
        reason = _reason(copy, entry, spec, None, "undated", Refused(why, names.shown(entry.name), expected))
        quarantine.put(quarantine_root, reason, entry.name, copy.path)
        claim.remove(incoming_root / spec.name, entry)
        return Received(entry.name, None, "refused", sha256=copy.sha256, reason=why)


def receive_all(
    waiting: Sequence[Waiting],
    spec: SourceSpec,
    incoming_root: Path,
    archive_root: Path,
    quarantine_root: Path,
    threads: int = 1,
) -> Results:
    """Take many files in, days side by side in `threads` threads, the files of one day in the order given (the scan's).

    The threads share nothing, and any number of them leaves the same bytes. After a failure the other files of its
    day keep waiting (a later file must not get ahead of an earlier one); the other days are not touched by it.
    """
    abandoned_before = partitions.now().timestamp() - _ABANDONED_SECONDS
    _sweep(archive_root / spec.name, abandoned_before)
    claim.sweep(incoming_root / spec.name, abandoned_before)
    days: dict[date, list[Waiting]] = {}
    for one in waiting:
        days.setdefault(one.day, []).append(one)

    def receive_day(files: list[Waiting]) -> tuple[list[tuple[Waiting, Received]], Failed | None]:
        done: list[tuple[Waiting, Received]] = []
        for one in files:
            try:
                done.append((one, receive(one, spec, incoming_root, archive_root, quarantine_root)))
            except EtlError as error:
                return done, Failed(one, error)
        return done, None

    with ThreadPoolExecutor(max_workers=threads) as pool:
        outcomes = list(pool.map(receive_day, days.values()))
    received = {one: result for done, _ in outcomes for one, result in done}
    failed = [failure for _, failure in outcomes if failure is not None]
    return Results(tuple(received[one] for one in waiting if one in received), tuple(failed))


def _decide(copy: _Copy, waiting: Waiting, spec: SourceSpec, archive_root: Path, quarantine_root: Path) -> Received:
    """Put the copy where it belongs: nowhere (the archive has it), into the archive, or into quarantine."""
    name, day = waiting.name, waiting.day
    twin = next((v for v in archive.accepted(archive_root, spec, day) if v.sha256 == copy.sha256), None)
    if twin is not None and twin.name == name:
        quarantine.settle(quarantine_root, spec, day, name)
        return Received(name, day, "identical", sha256=copy.sha256)
    kind: Literal["refused", "duplicate"] = "refused" if twin is None else "duplicate"
    try:
        if twin is not None:
            other = names.shown(twin.name)
            raise Refused("duplicate", f"the same content as {other}", f"content that {day} does not have yet")
        rows, rejected = _judged(copy.path, spec, name, day)
    except Refused as refusal:
        sequence = archive.highest_sequence(archive_root, spec, day)
        reason = _reason(copy, waiting, spec, day, kind, refusal, sequence)
        quarantine.put(quarantine_root, reason, name, copy.path)
        return Received(name, day, kind, sha256=copy.sha256, reason=str(refusal))
    archive.accept(archive_root, spec, day, name, copy.path, copy.sha256)
    return Received(name, day, "accepted", rows, rejected, copy.sha256)


def _judged(path: Path, spec: SourceSpec, name: str, day: date) -> tuple[int, int]:
    rows = rejected = 0
    for batch in judge.read(path, spec, name, day):
        rows += batch.rows.num_rows
        rejected += batch.rejects.num_rows
    return rows, rejected


def _reason(
    copy: _Copy,
    entry: Entry | Waiting,
    spec: SourceSpec,
    day: date | None,
    kind: quarantine.Kind,
    refusal: Refused,
    archive_sequence: int = 0,
) -> quarantine.Reason:
    return quarantine.Reason(
        source=spec.name,
        key=quarantine.key_of(spec.name, day, entry.name, copy.sha256),
        kind=kind,
        day=day,
        name=names.shown(entry.name),
        sha256=copy.sha256,
        size_bytes=entry.size,
        reason=refusal.reason,
        found=refusal.found,
        expected=refusal.expected,
        refused_at=partitions.now(),
        archive_sequence=archive_sequence,
    )


@contextmanager
def _private_copy(entry: Entry | Waiting, folder: Path) -> Iterator[_Copy | Literal["vanished", "unsettled"]]:
    """A durable copy of exactly the file that was listed, or why there is none. It is gone afterwards unless moved."""
    atomic.make_folder(folder)
    temporary = atomic.temporary_sibling(folder / entry.name.rpartition("/")[2])
    try:
        source = _open(entry.path)
        if source is None:
            yield "vanished"
            return
        with source, temporary.open("xb") as target:
            fcntl.flock(target, fcntl.LOCK_EX)
            sha256 = _copy_unchanged(source, target, entry)
            if sha256 is None:
                yield "unsettled"
                return
            target.flush()
            os.fsync(target.fileno())
            yield _Copy(temporary, sha256)
    finally:
        temporary.unlink(missing_ok=True)


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
    if _identity(source) != (entry.inode, entry.size, entry.mtime_ns):
        return None
    copied = 0
    while piece := source.read(_PIECE_BYTES):
        digest.update(piece)
        target.write(piece)
        copied += len(piece)
        if copied > entry.size:
            return None
    if copied != entry.size or _identity(source) != (entry.inode, entry.size, entry.mtime_ns):
        return None
    return digest.hexdigest()


def _identity(file: IO[bytes]) -> tuple[int, int, int]:
    stat = os.fstat(file.fileno())
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@contextmanager
def _receiving(entry: Entry | Waiting) -> Iterator[None]:
    """Turn the system's errors into one that says which file, what is in the way, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "free some space; the file waits where it is"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = "let this user read the file and write to its folder; the file waits where it is"
        else:
            advice = "the file waits where it is and is tried again"
        at = "" if error.filename is None else f" at {names.shown(os.fsdecode(error.filename))}"
        raise CannotReceive(f"{names.shown(entry.path)}: {error.strerror or error}{at}; {advice}.") from error


def _sweep(folder: Path, before: float) -> None:
    """Remove the copies that killed processes have left: those whose lock nobody holds any longer."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if (
                not entry.name.startswith(atomic.TEMPORARY_PREFIX)
                or entry.stat(follow_symlinks=False).st_mtime > before
            ):
                continue
            with suppress(OSError), Path(entry.path).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)
