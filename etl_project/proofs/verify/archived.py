"""The archive against itself: every version's content has the hash that is its name.

Belongs here: hashing archived files. They are what everything is built from, and nothing else would notice a flipped
bit before the next rebuild. It reads every byte, so it is done only where it is asked for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from etl_project.proofs.verify.findings import DaySpan
from etl_project.sources.day_of_name import VERSION
from etl_project.sources.names import shown
from etl_project.storage.judging.findings import Finding


def look(root: Path, sources: Iterable[str], window: DaySpan) -> Iterator[Finding]:
    """The archived versions of the window whose content is not what their name says, superseded ones included."""
    for source in sources:
        for path in _versions(root / source, window):
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


def _versions(folder: Path, window: DaySpan) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        if Path(parent) == folder:
            folders[:] = [day for day in folders if window.holds(day)]
            continue
        yield from (Path(parent, name) for name in sorted(files) if VERSION.fullmatch(name))
