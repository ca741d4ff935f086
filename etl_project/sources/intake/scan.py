"""Scan: what waits in a source's drop folder. Looks, never touches.

Belongs here: listing a folder and telling finished files from unfinished ones. Does not belong here: the day of a name
(`day_of_name`), reading a file (`admit`) or deciding what has to run.

Each entry costs one stat and one small tuple, so that a folder of 100,000 files is listed within a second. Links are
never followed, and what is no regular file is passed over and named. A file that a killed run had claimed (see
`removal`) counts as waiting under its own name; one that was taken in and has not changed since (see `kept`) does not
wait. Only files that changed a short while ago are asked whether somebody still writes to them (see `writers`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from etl_project.failures import Transient
from etl_project.sources import names
from etl_project.sources.day_of_name import DaysOfNames, refusal
from etl_project.sources.intake import kept
from etl_project.sources.intake.writers import Writers
from etl_project.sources.name_pattern import NamePattern
from etl_project.sources.spec import SourceSpec

CLAIMS = ".taken"
"""The hidden folder in a drop folder through which files leave it: `.taken/<unique>/<name>`."""

TEMPORARY = (".tmp", "~", ".swp", ".part")
_ASKED_SECONDS = 3600.0
"""A look at 100,000 files that wait for good reasons must not open each of them."""


class CannotList(Transient):
    """The drop folder cannot be read. Nothing was changed; retrying helps once the folder can be read."""


class Entry(NamedTuple):
    """A settled regular file. `name` is its path below `folder`: the drop folder, or a claim in it."""

    name: str
    folder: str
    mtime_ns: int
    size: int
    inode: int

    @property
    def path(self) -> str:
        """Where the file was when it was listed."""
        return f"{self.folder}/{self.name}"


class Waiting(NamedTuple):
    """An `Entry` with its day: a file that can be worked on."""

    name: str
    folder: str
    day: date
    mtime_ns: int
    size: int
    inode: int

    @property
    def path(self) -> str:
        """Where the file was when it was listed."""
        return f"{self.folder}/{self.name}"


class Unplaced(NamedTuple):
    """A settled file that belongs to no day of the source, and why."""

    entry: Entry
    reason: str


class PassedOver(NamedTuple):
    """Something in the folder that is not a file to read (a link, a pipe, an unreadable folder), and what it is."""

    name: str
    reason: str


class Kept(NamedTuple):
    """A file that was taken in and has not changed since, with its identity, and when it was taken (ns)."""

    entry: Entry
    identity: str
    taken_ns: int


class Scan(NamedTuple):
    """What a drop folder holds, oldest first. `early` files wait for their day, `unsettled` ones for their writer:
    too young, or among those of `being_written`, which a process has open. `kept` ones do not wait; `stale` are marks
    of files that are not there any more. `many_days`: files that wait and whose rows say their day."""

    waiting: tuple[Waiting, ...]
    undated: tuple[Unplaced, ...]
    early: tuple[Waiting, ...]
    unsettled: int
    passed_over: tuple[PassedOver, ...]
    being_written: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()
    stale: tuple[tuple[str, int], ...] = ()
    many_days: tuple[Entry, ...] = ()


def scan(folder: Path, spec: SourceSpec, now: datetime) -> Scan:
    """Everything in the drop folder of `spec`, by ascending mtime (then name); a folder that is not there is empty.

    `now` is an aware UTC instant: it decides what is settled (`settle_seconds`) and what lies ahead.
    Raises CannotList (retrying helps) when the folder cannot be read; an unreadable subfolder is passed over.
    """
    try:
        return _scanned(folder, spec, now)
    except PermissionError as error:
        raise CannotList(f"{_named(error, folder)}: no permission; allow this user to read and enter it.") from error
    except NotADirectoryError as error:
        raise CannotList(f"{names.shown(str(folder))}: no folder; a file or link lies there. Move it away.") from error
    except OSError as error:  # A disk that fails, a file server that does not answer.
        raise CannotList(f"{_named(error, folder)}: {error.strerror or error}; it is looked at again.") from error


def _named(error: OSError, folder: Path) -> str:
    """The drop folder itself where nobody may enter it: of what is kept hidden in there people know nothing."""
    entered = os.access(folder, os.R_OK | os.X_OK, effective_ids=True)
    return names.shown(os.fsdecode(error.filename if error.filename and entered else folder))


def _scanned(folder: Path, spec: SourceSpec, now: datetime) -> Scan:
    days: DaysOfNames | _NoDays
    if spec.day_from is None:
        days = DaysOfNames(spec.patterns, spec.start_date, now.date())
    else:
        days = _NoDays(spec.patterns, now.date())
    root = os.fspath(folder)
    passed_over: list[PassedOver] = []
    marks = kept.marks(root)
    claims = [claim.path for claim in _listing(os.path.join(root, CLAIMS), CLAIMS, passed_over)]
    # What lies in a claim came before whatever has its name now, whatever their dates of change say.
    claimed = _look(claims, days, spec, now, passed_over, marks)
    dropped = _look([root], days, spec, now, passed_over, marks)
    still_there = claimed.kept + dropped.kept
    found = Scan(
        claimed.waiting + dropped.waiting,
        claimed.undated + dropped.undated,
        claimed.early + dropped.early,
        claimed.unsettled + dropped.unsettled,
        tuple(passed_over),
        kept=still_there,
        stale=_without(marks, still_there),
        many_days=claimed.many_days + dropped.many_days,
    )
    return _without_open_files(found, now)


class _NoDays:
    """Names without a day that counts: None for a name that fits, or the reason why it does not."""

    def __init__(self, patterns: Sequence[str], today: date) -> None:
        self.today = today
        self._patterns = [NamePattern(pattern, dated=False) for pattern in patterns]

    def place(self, name: str) -> str | None:
        return refusal(self._patterns, name)


def _without(marks: dict[str, int], still_there: tuple[Kept, ...]) -> tuple[tuple[str, int], ...]:
    there = {one.identity for one in still_there}
    return tuple((which, taken_ns) for which, taken_ns in marks.items() if which not in there)


def _without_open_files(found: Scan, now: datetime) -> Scan:
    """The scan, with files that a process has open for writing among the unsettled ones.

    One that has not changed for hours is not asked here: whoever takes it in asks again (`private_copy`).
    """
    since_ns = int((now.timestamp() - _ASKED_SECONDS) * 1e9)
    writers = Writers()
    written = {
        path
        for path, mtime_ns in chain(
            ((file.path, file.mtime_ns) for file in found.waiting),
            ((file.entry.path, file.entry.mtime_ns) for file in found.undated),
            ((file.path, file.mtime_ns) for file in found.many_days),
        )
        if mtime_ns > since_ns and writers.have_path(path)
    }
    if not written:
        return found
    told = [file.name for file in found.waiting if file.path in written]
    told += [file.entry.name for file in found.undated if file.entry.path in written]
    told += [file.name for file in found.many_days if file.path in written]
    return found._replace(
        waiting=tuple(file for file in found.waiting if file.path not in written),
        undated=tuple(file for file in found.undated if file.entry.path not in written),
        many_days=tuple(file for file in found.many_days if file.path not in written),
        unsettled=found.unsettled + len(written),
        being_written=tuple(told),
    )


def _look(
    folders: list[str],
    days: DaysOfNames | _NoDays,
    spec: SourceSpec,
    now: datetime,
    passed_over: list[PassedOver],
    marks: dict[str, int],
) -> Scan:
    """The files of some folders, oldest first. This loop runs once a file: it does no more than it must."""
    now_ns = int(now.timestamp() * 1e9)
    deadline_ns = now_ns - int(spec.settle_seconds * 1e9)
    still_kept: list[Kept] = []
    waiting: list[Waiting] = []
    early: list[Waiting] = []
    undated: list[Unplaced] = []
    many_days: list[Entry] = []
    unsettled = 0
    for folder in folders:
        claimed_ns = _claimed_at(folder)
        for name, entry in _files(folder, "", passed_over):
            try:
                stat = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except PermissionError:
                if "/" not in name:
                    raise
                passed_over.append(PassedOver(name, "in a folder that this user may not enter"))
                continue
            mtime_ns = stat.st_mtime_ns
            if marks and (which := kept.identity(stat, name)) in marks:
                entry_there = Entry(name, folder, mtime_ns, stat.st_size, stat.st_ino)
                still_kept.append(Kept(entry_there, which, marks[which]))
                continue
            # A date of change in the future says nothing; the change time of the inode is this machine's own.
            if max(claimed_ns, mtime_ns if mtime_ns <= now_ns else stat.st_ctime_ns) > deadline_ns:
                unsettled += 1
                continue
            day = days.place(name)
            if isinstance(day, str):
                undated.append(Unplaced(Entry(name, folder, mtime_ns, stat.st_size, stat.st_ino), day))
            elif day is None:
                many_days.append(Entry(name, folder, mtime_ns, stat.st_size, stat.st_ino))
            else:
                file = Waiting(name, folder, day, mtime_ns, stat.st_size, stat.st_ino)
                (early if day > days.today else waiting).append(file)
    undated.sort(key=lambda one: (one.entry.mtime_ns, one.entry.name))
    many_days.sort(key=lambda entry: (entry.mtime_ns, names.order(entry.name)))
    return Scan(
        _oldest_first(waiting),
        tuple(undated),
        _oldest_first(early),
        unsettled,
        (),
        kept=tuple(still_kept),
        many_days=tuple(many_days),
    )


def _oldest_first(files: list[Waiting]) -> tuple[Waiting, ...]:
    """By mtime, then name: two sorts by a plain value cost half of one by pairs."""
    files.sort(key=itemgetter(0))
    files.sort(key=itemgetter(3))
    return tuple(files)


def _claimed_at(folder: str) -> int:
    """When the claim was made (ns): one as young as an unsettled file is still being worked on. 0 for no claim."""
    if os.path.basename(os.path.dirname(folder)) != CLAIMS:
        return 0
    try:
        return os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return 0


def _files(folder: str, prefix: str, passed_over: list[PassedOver]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Regular files below the folder, with their relative names; hidden and temporary names are left out."""
    for entry in _listing(folder, prefix, passed_over):
        name = entry.name
        if name[0] == "." or name.endswith(TEMPORARY):
            continue
        if prefix:
            name = f"{prefix}/{name}"
        if entry.is_file(follow_symlinks=False):
            yield name, entry
        elif entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path, name, passed_over)
        else:
            what = "a link: links are not followed" if entry.is_symlink() else "neither a file nor a folder"
            passed_over.append(PassedOver(name, what))


def _listing(folder: str, name: str, passed_over: list[PassedOver]) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except FileNotFoundError:
        if not name and os.path.islink(folder):
            raise NotADirectoryError(f"{folder}: a link to nothing") from None
    except NotADirectoryError:
        if not name:
            raise
    except PermissionError:
        if not name:
            raise
        passed_over.append(PassedOver(name, "a folder that this user may not list"))
