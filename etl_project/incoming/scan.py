"""Scan: what waits in a source's drop folder. Looks, never touches.

Belongs here: listing a folder, telling finished files from unfinished ones, and reading the day out of a name. Does
not belong here: opening a file (`receive`) or deciding what has to run.

Each entry costs one stat and one small tuple, so that a folder of 100,000 files is listed within a second. Links are
never followed, and what is no regular file is passed over and named. A file that a killed run had claimed (see
`claim`) counts as waiting under its own name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from etl_project.failures import Transient
from etl_project.incoming import names
from etl_project.incoming.spec import SourceSpec

CLAIMS = ".taken"
"""The hidden folder in a drop folder through which files leave it: `.taken/<unique>/<name>`."""

VERSION = re.compile(r"[0-9]{6,}-[0-9a-f]{64}")
"""How the archive names a version; a folder called so inside a drop folder could be mistaken for one."""

_TEMPORARY = (".tmp", "~", ".swp", ".part")
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_AHEAD = timedelta(days=1)


class CannotList(Transient):
    """The drop folder cannot be read. Nothing was changed; retrying helps once the folder can be read."""


class Entry(NamedTuple):
    """A settled regular file. `name` is its path below the drop folder, `path` where it is now."""

    name: str
    path: str
    mtime_ns: int
    size: int
    inode: int


class Waiting(NamedTuple):
    """A settled file of a day that can be worked on."""

    name: str
    path: str
    day: date
    mtime_ns: int
    size: int
    inode: int


class Unplaced(NamedTuple):
    """A settled file that belongs to no day of the source, and why."""

    entry: Entry
    reason: str


class PassedOver(NamedTuple):
    """Something in the folder that is not a file to read (a link, a pipe, an unreadable folder), and what it is."""

    name: str
    reason: str


class Scan(NamedTuple):
    """What a drop folder holds, oldest first. `early` files wait for their day, `unsettled` ones for their writer."""

    waiting: tuple[Waiting, ...]
    undated: tuple[Unplaced, ...]
    early: tuple[Waiting, ...]
    unsettled: int
    passed_over: tuple[PassedOver, ...]


def scan(folder: Path, spec: SourceSpec, now: datetime) -> Scan:
    """Everything in the drop folder of `spec`, by ascending mtime (then name); a folder that is not there is empty.

    `now` is an aware UTC instant: it decides what is settled (`settle_seconds`) and what lies ahead.
    Raises CannotList (retrying helps) when the folder cannot be read; an unreadable subfolder is passed over.
    """
    passed_over: list[PassedOver] = []
    settled, unsettled = _settled(folder, spec, now, passed_over)
    days = _Days(spec, now.date())
    waiting: list[Waiting] = []
    early: list[Waiting] = []
    undated: list[Unplaced] = []
    for entry in settled:
        day = days.place(entry.name)
        if isinstance(day, str):
            undated.append(Unplaced(entry, day))
        else:
            name, path, mtime_ns, size, inode = entry
            (early if day > days.today else waiting).append(Waiting(name, path, day, mtime_ns, size, inode))
    return Scan(tuple(waiting), tuple(undated), tuple(early), unsettled, tuple(passed_over))


def _settled(folder: Path, spec: SourceSpec, now: datetime, passed_over: list[PassedOver]) -> tuple[list[Entry], int]:
    """Settled files in the order in which they came (claimed ones first: they came before what replaced them)."""
    deadline = now.timestamp() - spec.settle_seconds
    horizon = now.timestamp()
    settled: list[Entry] = []
    unsettled = 0
    for name, entry in _files(os.fspath(folder), "", passed_over):
        try:
            stat = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        # A date of change in the future says nothing about the writer; the inode's own change time is this machine's.
        changed = stat.st_mtime if stat.st_mtime <= horizon else stat.st_ctime
        if changed > deadline:
            unsettled += 1
        else:
            settled.append(Entry(name, entry.path, stat.st_mtime_ns, stat.st_size, stat.st_ino))
    settled.sort(key=lambda entry: (entry.mtime_ns, names.order(entry.name)))
    claimed, still_claimed = _claimed(folder, deadline, passed_over)
    return claimed + settled, unsettled + still_claimed


def _claimed(folder: Path, deadline: float, passed_over: list[PassedOver]) -> tuple[list[Entry], int]:
    """Files that a killed run left in its claim; a claim as young as an unsettled file is still being worked on."""
    left: list[Entry] = []
    busy = 0
    for claim in _listing(os.path.join(folder, CLAIMS), CLAIMS, passed_over):
        for name, entry in _files(claim.path, "", passed_over):
            try:
                stat = entry.stat(follow_symlinks=False)
                taken_at = os.stat(os.path.dirname(entry.path)).st_mtime
            except FileNotFoundError:
                continue
            if taken_at > deadline:
                busy += 1
            else:
                left.append(Entry(name, entry.path, stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return sorted(left, key=lambda entry: (entry.mtime_ns, names.order(entry.name))), busy


def _files(folder: str, prefix: str, passed_over: list[PassedOver]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Regular files below the folder, with their relative names; hidden and temporary names are left out."""
    for entry in _listing(folder, prefix, passed_over):
        name = entry.name
        if name.startswith(".") or name.endswith(_TEMPORARY):
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


def _listing(folder: str, name: str, passed_over: list[PassedOver]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        if not name:
            raise CannotList(f"{folder}: no permission to list it; allow this user to read and enter it.") from error
        passed_over.append(PassedOver(name, "a folder that this user may not list"))
        return []


class _Days:
    """The day of each name, or the reason why there is none. Remembers the dates it has read, for this scan only."""

    def __init__(self, spec: SourceSpec, today: date) -> None:
        self.today = today
        self._first = spec.start_date
        self._expected = " or ".join(pattern.replace("{date}", "YYYY-MM-DD") for pattern in spec.patterns)
        self._shapes = [(_shape(pattern, "*"), _shape(pattern, "*?")) for pattern in spec.patterns]
        self._read: dict[str, date | str] = {}

    def place(self, name: str) -> date | str:
        """The day of the file, or why it has none. A name that could mean two days means none."""
        if "/" in name and any(VERSION.fullmatch(part) for part in name.split("/")):
            return "part of its path has the form of an archived version"
        for last, first in self._shapes:
            found = last.fullmatch(name)
            if found is None:
                continue
            text = found[1]
            other = first.fullmatch(name)
            if other is not None and other[1] != text:
                return f"the name holds two dates, {other[1]} and {text}; the pattern must say which one counts"
            day = self._read.get(text)
            if day is None:
                day = self._read[text] = self._day(text)
            return day
        return f"the name does not match; expected {self._expected}"

    def _day(self, text: str) -> date | str:
        try:
            day = date.fromisoformat(text)
        except ValueError:
            return f"the date {text} does not exist"
        if day < self._first:
            return f"the date {text} lies before the first day of the source, {self._first}"
        if day - self.today > _AHEAD:
            return f"the date {text} lies more than a day ahead (today is {self.today}, UTC)"
        return day


def _shape(pattern: str, many: str) -> re.Pattern[str]:
    """The pattern as a regular expression; `many` is `*` to find the last date that fits and `*?` for the first."""
    before, _, after = pattern.partition("{date}")
    return re.compile(f"{_wild(before, many)}(?<![0-9])({_DATE})(?![0-9]){_wild(after, many)}", re.DOTALL)


def _wild(text: str, many: str) -> str:
    return "".join({"*": "." + many, "?": "."}.get(char) or re.escape(char) for char in text)
