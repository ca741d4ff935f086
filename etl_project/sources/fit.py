"""Fit: whether the files of the archive can still be read under the contract as it is now.

Belongs here: reading archived files without building anything, and naming every one that no longer fits, before a
rebuild runs into it. Nothing is changed but a note of what was looked at, which only saves looking again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from etl_project import atomic
from etl_project.settings import Settings
from etl_project.sources.day_reader import as_sent
from etl_project.sources.intake import archive, spread
from etl_project.sources.names import shown
from etl_project.sources.reading import judge
from etl_project.sources.spec import SourceSpec

FIRST_BATCHES = 2
"""A quick look reads so much of a file: its header, and the whole of most files."""


class Unfit(NamedTuple):
    """An archived file that was accepted once and can no longer be read, and why."""

    source: str
    day: date
    name: str
    why: str
    path: Path

    def __str__(self) -> str:
        return f"{self.source} {self.day} {shown(self.name)}: {self.why}"


def unfit(spec: SourceSpec, root: Path, *, whole: bool = True) -> Iterator[Unfit]:
    """Every file of the archive that a rebuild would read and that no longer fits its contract, by day and name.

    `whole=False` looks at the beginning of each only. A file that the system does not let read is among them.
    """
    seen: set[str] = set()
    for day, versions in archive.accepted_days(root, spec).items():
        for version in versions:
            where = os.path.realpath(version.file)
            if where in seen:
                continue
            seen.add(where)
            if spec.day_from is not None:
                batches = judge.read_file(as_sent(version, day)[0], spec)
            elif spread.of(version.path) is None:
                batches = judge.read(version.path, spec, version.name, day, accepted=True)
            else:
                why = "its rows are of many days, and the source has no day_from any more"
                yield Unfit(spec.name, day, version.name, why, version.path)
                continue
            try:
                for _ in batches if whole else islice(batches, FIRST_BATCHES):
                    pass
            except judge.FileRefused as refused:
                yield Unfit(spec.name, day, version.name, str(refused), version.path)
            except OSError as error:
                yield Unfit(spec.name, day, version.name, f"it cannot be read: {error.strerror}", version.path)


def after_a_change(specs: Sequence[SourceSpec], configured: Settings) -> list[Unfit]:
    """What no longer fits of the sources whose contract or settings have changed since the last look at their archive.

    A quick look, made again until everything fits. Nobody depends on the note of it: without one, all is looked at.
    """
    found: list[Unfit] = []
    for spec in specs:
        note = configured.cache / "fit" / spec.name
        digest = _digest(spec)
        if _noted(note) == digest:
            continue
        problems = list(unfit(spec, configured.archive, whole=False))
        if not problems:
            with atomic.replacing(note, "fit.note") as temporary:
                temporary.write_text(digest, encoding="utf-8")
        found += problems
    return found


def _digest(spec: SourceSpec) -> str:
    return hashlib.sha256(repr(replace(spec, settle_seconds=0.0, quiet_seconds=0.0)).encode()).hexdigest()


def _noted(note: Path) -> str:
    try:
        return note.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return ""
