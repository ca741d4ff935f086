"""Archive: the accepted versions of every file, for good. The input of every rebuild.

Belongs here: the layout `archive/<source>/<day>/<name>/<sequence>-<sha256>`, which version counts, and the hash of a
day's input. Does not belong here: judging files or moving them out of the drop folder (`admit`).

A sequence is one more than the highest of its day over all names, so that the versions of a day are in the order in
which they were accepted. The highest sequence of a name counts; where a source has one file a day (`latest`), only
the highest of the day does; where its names hold a time, the latest time comes first. Nothing here is ever overwritten
or removed. A nested name is a nested folder. A file of many days lies in `undated/`; its versions are links (`spread`).
Beside a file for which one of several encodings was chosen lies which one, `<sequence>-<sha256>.encoding`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from etl_project import atomic, faults
from etl_project.sources import names
from etl_project.sources.day_of_name import VERSION
from etl_project.sources.spec import SourceSpec

UNDATED = "undated"
"""The folder beside those of the days for files whose rows are of many days."""

_ENCODING = ".encoding"
_json = json.JSONEncoder(ensure_ascii=True).encode
_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Accepted(NamedTuple):
    """The version of a file that counts for its day."""

    name: str
    sequence: int
    sha256: str
    file: str

    @property
    def path(self) -> Path:
        """Where its bytes are. Made when asked for: a look at all days names thousands, and opens none."""
        return Path(self.file)


class Archived(NamedTuple):
    """A day of the archive: all versions, those that make it up, and the hash of these."""

    versions: tuple[Accepted, ...]
    accepted: tuple[Accepted, ...]
    fingerprint: str


def archived(root: Path, spec: SourceSpec, day: date) -> Archived:
    """The day as it is now, looked at once."""
    there = tuple(versions(root, spec, day))
    current = counting(there, spec)
    return Archived(there, current, fingerprint(current))


def accepted(root: Path, spec: SourceSpec, day: date) -> tuple[Accepted, ...]:
    """The versions that make up the day, in name order (bytes); empty for a day without an accepted file."""
    return counting(_versions(os.fspath(day_folder(root, spec, day)), ""), spec)


def accepted_days(
    root: Path, spec: SourceSpec, within: tuple[date, date] | None = None
) -> dict[date, tuple[Accepted, ...]]:
    """Every day with an accepted file, ascending, in one pass over the folders (no file is opened or stat'ed).

    `within`: the first and the last day of interest; the folders of others are not looked into.
    """
    return {day: counting(versions, spec) for day, versions in each_day(root, spec, within)}


def each_day(
    root: Path, spec: SourceSpec, within: tuple[date, date] | None = None
) -> Iterator[tuple[date, list[Accepted]]]:
    """As `accepted_days`, with every version of the day, superseded ones included, in no order."""
    for entry in sorted(_listing(os.fspath(root / spec.name)), key=lambda entry: entry.name):
        if _DAY.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            if within is not None and not within[0].isoformat() <= entry.name <= within[1].isoformat():
                continue
            versions = list(_versions(entry.path, ""))
            if versions:
                yield date.fromisoformat(entry.name), versions


def fingerprint(versions: Iterable[Accepted]) -> str:
    """The hash of a day's input: of the (name, sha256) of its versions, whatever their sequence. Empty has one too."""
    # As JSON, [[name, sha256], ...]: put together here, since a list for each of 100,000 files is what takes the time.
    in_order = sorted(versions, key=lambda version: names.order(version.name))
    content = ",".join([f"[{_json(version.name)},{_json(version.sha256)}]" for version in in_order])
    return hashlib.sha256(f"[{content}]".encode("ascii")).hexdigest()


def encoding_record(version: Path) -> Path:
    """Where it stands which encoding an accepted file was read in; not there where it had no choice."""
    return version.with_name(f"{version.name}{_ENCODING}")


class Day:
    """The archive of one day for its one writer: read once, kept up to date by `accept`, so that a day of many files
    costs no more than its files. Whoever holds it must be the only one who accepts files for the day.

    Without a day it is the archive of files whose rows are of many days; they count for the days they are linked under.
    `versions`: all that there are, where somebody has looked already.
    """

    def __init__(
        self, root: Path, spec: SourceSpec, day: date | None, versions: Sequence[Accepted] | None = None
    ) -> None:
        self._folder = root / spec.name / UNDATED if day is None else day_folder(root, spec, day)
        self._spec = spec
        if versions is None:
            versions = list(_versions(os.fspath(self._folder), ""))
        self._earlier: dict[str, list[Accepted]] | None = None if day is not None else {}
        for version in versions if self._earlier is not None else ():
            self._note(version)
        self.highest = max((version.sequence for version in versions), default=0)
        self._current = {counts_with(version.name, spec): version for version in counting(versions, spec)}
        self._by_content = {version.sha256: version for version in self._current.values()}

    @property
    def accepted(self) -> tuple[Accepted, ...]:
        """The versions that make up the day, in name order (bytes)."""
        return tuple(sorted(self._current.values(), key=lambda version: names.order(version.name)))

    def holding(self, sha256: str) -> Accepted | None:
        """The version with this content, if one of those that count has it."""
        return self._by_content.get(sha256)

    def current(self, name: str) -> Accepted | None:
        """The version of this very name, if it counts."""
        if self._spec.files_per_day == "every":
            of_name = (one for one in self._current.values() if sent_as(one.name, self._spec) == name)
            return max(of_name, key=lambda one: one.sequence, default=None)
        version = self._current.get(counts_with(name, self._spec))
        return version if version is not None and version.name == name else None

    def replaced_by(self, name: str) -> Accepted | None:
        """The version that would no longer count if a file of this name were accepted now."""
        return None if self.is_overtaken(name) else self._current.get(counts_with(name, self._spec))

    def is_overtaken(self, name: str) -> bool:
        """Whether a file of this name would not count if it were accepted now: by its name it is an older one."""
        old = self._current.get(counts_with(name, self._spec))
        return old is not None and self._spec.version_of(old.name)[1] > self._spec.version_of(name)[1]

    def beside(self, version: Accepted) -> list[Accepted]:
        """The other versions that count."""
        return [one for one in self._current.values() if one != version]

    def before(self, name: str) -> list[Accepted]:
        """Of files whose rows are of many days: the versions of this name older than what comes now, oldest first."""
        which, made = self._spec.version_of(name)
        of_name = () if self._earlier is None else self._earlier.get(which, ())
        older = (version for version in of_name if self._spec.version_of(version.name)[1] <= made)
        return sorted(older, key=lambda version: _order(version, self._spec))

    def accept(
        self, name: str, copy: Path, sha256: str, unsynced: set[Path] | None = None, encoding: str | None = None
    ) -> Accepted:
        """Make `copy` (complete, flushed to disk, on the archive's file system) the newest version, in one rename.

        The content must not be `holding` already. A kill leaves the copy where it was or the new version in place.
        `unsynced`: gets the folders that the caller flushes to the disk, many at once, before the file goes.
        `encoding`: what is to be on record of the encoding that was chosen; it is there before the version is.
        """
        folder = self._folder / name
        if unsynced is None:
            atomic.make_folder(folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.highest + 1:06d}-{sha256}"
        version = Accepted(name, self.highest + 1, sha256, os.fspath(path))
        if encoding is not None:
            _sweep(folder)
            with atomic.replacing(encoding_record(path), "archive.encoding") as temporary:
                temporary.write_text(encoding, encoding="utf-8")
        faults.reach("archive.before_rename")
        os.rename(copy, path)
        faults.reach("archive.after_rename")
        if unsynced is None:
            atomic.sync_folder(folder)
        else:
            unsynced.update(self.folders_of(name))
        self._count(version)
        return version

    def link(self, name: str, content: Path, sha256: str) -> None:
        """Make the bytes at `content`, elsewhere in the archive, the newest version, unless they are one already.

        A kill leaves the link there or not.
        """
        folder = self._folder / name
        target = os.path.relpath(content, folder)
        if any(os.readlink(there) == target for there in folder.glob(f"*-{sha256}") if there.is_symlink()):
            return
        atomic.make_folder(folder)
        path = folder / f"{self.highest + 1:06d}-{sha256}"
        os.symlink(target, path)
        atomic.sync_folder(folder)
        self._count(Accepted(name, self.highest + 1, sha256, os.fspath(path)))

    def folders_of(self, name: str) -> list[Path]:
        """The folders in whose entries the versions of this name are, from that of all days down."""
        folder = self._folder / name
        above = folder.parents[: len(folder.relative_to(self._folder.parent).parts)]
        return [folder, *above]

    def _note(self, version: Accepted) -> None:
        if self._earlier is not None:
            self._earlier.setdefault(self._spec.version_of(version.name)[0], []).append(version)

    def _count(self, version: Accepted) -> None:
        self._note(version)
        self.highest = version.sequence
        which = counts_with(version.name, self._spec)
        old = self._current.get(which)
        if old is not None and _order(old, self._spec) > _order(version, self._spec):
            return  # By the time in its name it is older than what is there.
        if old is not None:
            self._by_content.pop(old.sha256, None)
        self._current[which] = self._by_content[version.sha256] = version


def _sweep(folder: Path) -> None:
    """Remove records of an encoding, finished or not, that a kill has left without their version."""
    for entry in _listing(os.fspath(folder)):
        unfinished = entry.name.startswith(atomic.TEMPORARY_PREFIX) and entry.name.endswith(atomic.TEMPORARY_SUFFIX)
        version = folder / entry.name.removesuffix(_ENCODING)
        if unfinished or (entry.name.endswith(_ENCODING) and not os.path.lexists(version)):
            os.unlink(entry.path)


def sent_as(name: str, spec: SourceSpec) -> str:
    """The name that a file had in the drop folder: where every file adds its rows, its folder here is a number."""
    numbered = spec.files_per_day == "every" and name.partition("/")[0].isdigit()
    return name.partition("/")[2] if numbered else name


def day_folder(root: Path, spec: SourceSpec, day: date) -> Path:
    """Where the versions of the day are."""
    return root / spec.name / day.isoformat()


def versions(root: Path, spec: SourceSpec, day: date | None) -> list[Accepted]:
    """Every version of the day, superseded ones included, in no order. Without a day: of files of many days."""
    folder = root / spec.name / UNDATED if day is None else day_folder(root, spec, day)
    return list(_versions(os.fspath(folder), ""))


def counting(versions: Iterable[Accepted], spec: SourceSpec) -> tuple[Accepted, ...]:
    """Those of the versions of a day that make it up, in name order."""
    newest: dict[str, Accepted] = {}
    for version in versions:
        which = counts_with(version.name, spec)
        if which not in newest or _order(newest[which], spec) < _order(version, spec):
            newest[which] = version
    return tuple(sorted(newest.values(), key=lambda version: names.order(version.name)))


def counts_with(name: str, spec: SourceSpec) -> str:
    """What the files have in common of which one counts: nothing but the day, where one file is the day."""
    return "" if spec.files_per_day == "latest" else spec.version_of(name)[0]


def _order(version: Accepted, spec: SourceSpec) -> tuple[str, int]:
    return spec.version_of(version.name)[1], version.sequence


def _versions(folder: str, name: str) -> Iterator[Accepted]:
    """Every version below a day's folder, of every name."""
    for entry in _listing(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _versions(entry.path, f"{name}/{entry.name}" if name else entry.name)
        elif name and VERSION.fullmatch(entry.name):
            sequence, _, sha256 = entry.name.partition("-")
            yield Accepted(name, int(sequence), sha256, entry.path)


def _listing(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
