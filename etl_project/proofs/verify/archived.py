"""The archive against itself and the commits: every version is there, and its content has the hash that is its name.

Belongs here: what is gone, which the numbers of the versions and the input hashes of the raw rows tell; and hashing
archived files. They are what everything is built from, and nothing else would notice a flipped bit before the next
rebuild. Hashing reads every byte, so it is done only where it is asked for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

from etl_project import utc
from etl_project.proofs.verify.findings import DaySpan
from etl_project.sources import VERSION, Names, SourceSpec, archive, lost, shown
from etl_project.storage import Commit, Finding, ParquetStore


def look(root: Path, sources: Iterable[str], window: DaySpan) -> Iterator[Finding]:
    """The archived versions of the window whose content is not what their name says, superseded ones included."""
    for source in sources:
        seen: set[str] = set()
        for path in _versions(root / source, window):
            if path.is_symlink() and (where := os.path.realpath(path)) in seen:
                continue  # One file under many days.
            elif path.is_symlink():
                seen.add(where)
            expected = path.name.partition("-")[2]
            day = path.relative_to(root / source).parts[0]
            try:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                yield Finding("corrupt archive", source, day, shown(str(path)), f"cannot be read: {error.strerror}")
                continue
            if found != expected:
                told = f"its content hashes to {found[:16]}…, its name says {expected[:16]}…"
                yield Finding("corrupt archive", source, day, shown(str(path)), told)


def losses(root: Path, specs: Iterable[SourceSpec], lake: ParquetStore, window: DaySpan) -> Iterator[Finding]:
    """Versions that were accepted and are not in the archive any more, by day."""
    for spec in specs:
        raw = Names.of(spec.name).raw
        built = {utc.day_of(str(key)): commit for (_, key), commit in lake.last_commits([raw]).items() if key}
        days = {*built, *archive.accepted_days(root, spec)}
        for day in sorted(day for day in days if window.holds(day.isoformat())):
            told = _lost_of(root, spec, day, built.get(day))
            if told is not None:
                yield Finding("lost archive", spec.name, day.isoformat(), shown(str(root / spec.name / str(day))), told)


def _lost_of(root: Path, spec: SourceSpec, day: date, commit: Commit | None) -> str | None:
    versions = archive.versions(root, spec, day)
    gaps = lost.missing_sequences(versions)
    if gaps:
        return f"accepted versions are gone: number {', '.join(map(str, gaps[:5]))} of {max(gaps) + 1} or more"
    if commit is None:
        return None
    if versions:
        return lost.why(spec, versions, day, commit.input_hash)
    if not lost.all_of_it(spec, day, commit.input_hash, archive.fingerprint(())):
        return None
    return f"no version is left of what its {commit.rows:,} rows were built from"


def _versions(folder: Path, window: DaySpan) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        if Path(parent) == folder:
            folders[:] = [day for day in folders if window.holds(day)]
            continue
        yield from (Path(parent, name) for name in sorted(files) if VERSION.fullmatch(name))
