"""Spread: one accepted file whose rows are of many days, put under each of these days in the archive.

Belongs here: where such a file lies, what is recorded of it when it is accepted, and finishing what a kill interrupted.
Does not belong here: which days its rows are of (`reading.own_days`), judging it (`many_days`).

Its bytes lie once, `archive/<source>/undated/<name>/<number>-<sha256>`, with what was recorded beside them
(`.json`). Every day that it holds has a version of it like that of any other file: a relative symbolic link to these
bytes. So whatever reads the archive of a day finds it without knowing of it. The file is accepted by one rename;
before that a mark is made, `.spreading/<number>-<sha256>`, which goes once all days have their link. A kill leaves
the mark, by which the next call finishes the links: all days get the file, or none.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

from etl_project import atomic, faults, file_lock
from etl_project.failures import Busy
from etl_project.sources.intake import archive
from etl_project.sources.intake.archive import UNDATED, Accepted
from etl_project.sources.spec import SourceSpec

_MARKS, _LOCK = ".spreading", ".spreading.lock"
_RECORD = ".json"


class SpreadBusy(Busy):
    """Another process takes in files of the source that have no day in their name. Retrying helps once it is done."""


class Spread(NamedTuple):
    """What was recorded of a file when it was accepted.

    `days`: those that it holds, ascending. `first`, `last`: those that its rows could be of then; a row of another day
    is a reject for good, whatever day it is when the file is read again.
    """

    name: str
    days: tuple[date, ...]
    first: date
    last: date

    @property
    def home(self) -> date | None:
        """The day under which what belongs to no day is counted: rejects without a day, skipped records."""
        return self.days[0] if self.days else None


def folder_of(root: Path, spec: SourceSpec) -> Path:
    """Where the files of the source lie whose rows are of many days."""
    return root / spec.name / UNDATED


@contextmanager
def exclusive(root: Path, spec: SourceSpec) -> Iterator[None]:
    """Nobody else takes in such files of the source meanwhile. Raises SpreadBusy; a kill lets go."""
    folder = folder_of(root, spec)
    atomic.make_folder(folder)
    busy = SpreadBusy(f"{spec.name}: another process takes its files in; they wait where they are.")
    with file_lock.held(root / spec.name / _LOCK, busy, folder_too=folder):
        yield


def accept(
    archived: archive.Day,
    root: Path,
    spec: SourceSpec,
    copy: Path,
    sha256: str,
    found: Spread,
    encoding: str | None = None,
) -> Accepted:
    """Make `copy` an accepted file and a version of every day that it holds.

    `archived` is the archive of such files (`archive.Day` without a day); `encoding` as there. A kill leaves the copy
    where it was, or the file accepted with a mark that `finish` goes by.
    """
    which = f"{archived.highest + 1:06d}-{sha256}"
    record = folder_of(root, spec) / found.name / f"{which}{_RECORD}"
    with atomic.replacing(record, "spread.record") as temporary:
        temporary.write_text(_written(found), encoding="utf-8")
    mark = root / spec.name / _MARKS / which
    atomic.make_folder(mark.parent)
    mark.write_bytes(os.fsencode(found.name))
    atomic.sync_file(mark)
    atomic.sync_folder(mark.parent)
    faults.reach("spread.after_mark")
    version = archived.accept(found.name, copy, sha256, encoding=encoding)
    _link_all(root, spec, version.path, sha256, found)
    mark.unlink()
    return version


def finish(root: Path, spec: SourceSpec) -> list[tuple[str, Spread]]:
    """Finish what a kill has left of `accept`; the files that were not under all of their days, with their hash."""
    finished = []
    for mark in unfinished(root, spec):
        path = folder_of(root, spec) / os.fsdecode(mark.read_bytes()) / mark.name
        if path.exists():
            sha256 = mark.name.partition("-")[2]
            found = recorded(path)
            _link_all(root, spec, path, sha256, found)
            finished.append((sha256, found))
        mark.unlink()
    return finished


def unfinished(root: Path, spec: SourceSpec) -> list[Path]:
    """The marks of files that are not yet under all of their days."""
    try:
        with os.scandir(root / spec.name / _MARKS) as entries:
            return sorted(Path(entry.path) for entry in entries)
    except FileNotFoundError:
        return []


def of(path: Path) -> Spread | None:
    """What was recorded of the file that this version of a day is; None for the file of one day."""
    return recorded(path.resolve()) if path.is_symlink() else None


def recorded(path: Path) -> Spread:
    """What was recorded of the accepted file at this path."""
    said = json.loads(path.with_name(f"{path.name}{_RECORD}").read_text(encoding="utf-8"))
    first, last = (date.fromisoformat(said[word]) for word in ("first", "last"))
    days = tuple(map(date.fromisoformat, said["days"]))
    return Spread(os.fsdecode(bytes.fromhex(said["name_bytes"])), days, first, last)


def copied(real: Path, scratch: Path, source: str, day: str) -> None:
    """Copy the archive of one day into another archive, with the bytes that its links lead to."""
    folder = Path(source, day)
    shutil.copytree(real / folder, scratch / folder, symlinks=True)
    for link in (path for path in (scratch / folder).rglob("*") if path.is_symlink()):
        there = Path(os.path.normpath(link.parent / os.readlink(link)))
        for beside in (there, there.with_name(f"{there.name}{_RECORD}"), archive.encoding_record(there)):
            beside.parent.mkdir(parents=True, exist_ok=True)
            original = real / beside.relative_to(scratch)
            if beside != archive.encoding_record(there) or original.exists():
                shutil.copyfile(original, beside)


def _link_all(root: Path, spec: SourceSpec, content: Path, sha256: str, found: Spread) -> None:
    for day in found.days:
        faults.reach("spread.before_link")
        archive.Day(root, spec, day).link(found.name, content, sha256)
    faults.reach("spread.after_links")


def _written(found: Spread) -> str:
    said = {
        "name": os.fsencode(found.name).decode(errors="backslashreplace"),
        "name_bytes": os.fsencode(found.name).hex(),
        "first": found.first.isoformat(),
        "last": found.last.isoformat(),
        "days": [day.isoformat() for day in found.days],
    }
    return json.dumps(said, indent=1) + "\n"
