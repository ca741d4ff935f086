"""Handed over: which objects were fetched and are not done with, one small file each, beside the drop folder's files.

Belongs here: these records, `.fetched/<hash of the name>.json` in a drop folder, and what state a fetched file is in.
Does not belong here: what its state leads to (`fetch`).

A record is written before its file gets its name in the drop folder, and names the complete copy that becomes it in one
rename. So a copy that is there has not been handed over, one that is not there has; never twice, never not at all.
Without its record an object is fetched once more, and found to be what the archive has.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from etl_project import atomic, file_lock
from etl_project.failures import Busy
from etl_project.sources import names
from etl_project.sources.intake import kept
from etl_project.sources.intake.scan import CLAIMS

FETCHED, LOCK = ".fetched", "lock"
_RECORD, _COPY = ".json", ".copy"


class FetchBusy(Busy):
    """Another process fetches the objects of this source. Retrying helps once it has ended."""


@dataclass(frozen=True)
class Handed:
    """An object as it was fetched. `copy`: the name of its complete copy before it got its place."""

    place: str
    name: str
    etag: str
    size_bytes: int
    sha256: str
    copy: str
    inode: int
    mtime_ns: int
    handed_at: datetime


State = Literal["not in its place", "waits", "judged"]


class Ledger:
    """The records of one drop folder, for objects from one place (its address)."""

    def __init__(self, drop: Path, place: str) -> None:
        self.drop, self._place = drop, place
        self._folder = drop / FETCHED

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else fetches for this drop folder meanwhile. Raises FetchBusy; a kill lets go."""
        busy = FetchBusy(f"{self.drop.name}: another process fetches its objects.")
        with file_lock.held(self._folder / LOCK, busy):
            yield

    def records(self) -> dict[str, Handed]:
        """The records by name; those of another place are passed over."""
        found = (_load(path) for path in sorted(self._folder.glob(f"*{_RECORD}")))
        return {one.name: one for one in found if one is not None and one.place == self._place}

    def etags(self) -> dict[str, str]:
        """The ETags of what is on record, by name."""
        return {name: one.etag for name, one in self.records().items()}

    def new_copy(self) -> Path:
        """Where a copy is made."""
        return atomic.temporary_sibling(self._folder / "new").with_suffix(_COPY)

    def copy_of(self, one: Handed) -> Path:
        """Where the complete copy is, before it gets its place."""
        return self._folder / one.copy

    def note(self, one: Handed) -> None:
        """Put it on record, durably."""
        with atomic.replacing(self._path(one.name), "fetch.record") as temporary:
            temporary.write_text(json.dumps({**asdict(one), "handed_at": one.handed_at.isoformat()}), encoding="utf-8")

    def forget(self, one: Handed) -> None:
        """The object is done with, or has to be fetched anew."""
        self.copy_of(one).unlink(missing_ok=True)
        self._path(one.name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove copies that a kill has left without a record, and unfinished records. Only for who holds it."""
        with suppress(FileNotFoundError):
            wanted = {one.copy for one in map(_load, self._folder.glob(f"*{_RECORD}")) if one is not None} | {LOCK}
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name not in wanted and not entry.name.endswith(_RECORD):
                        os.unlink(entry.path)

    def state(self, one: Handed, marks: Mapping[str, int]) -> State:
        """What became of the file; `marks` are those of files that were taken in and stay for a while (`kept`)."""
        if self.is_not_in_its_place(one):
            return "not in its place"
        for path in (self.drop / one.name, *self._claimed(one.name)):
            with suppress(FileNotFoundError, NotADirectoryError):
                stat = os.lstat(path)
                if (stat.st_ino, stat.st_size, stat.st_mtime_ns) == (one.inode, one.size_bytes, one.mtime_ns):
                    return "judged" if kept.identity(stat, one.name) in marks else "waits"
        return "judged"

    def is_not_in_its_place(self, one: Handed) -> bool:
        """Whether its copy has not become a file of the drop folder."""
        return self.copy_of(one).exists()

    def is_taken(self, name: str, marks: Mapping[str, int]) -> bool:
        """Whether a file that nobody has judged yet has this name in the drop folder."""
        try:
            return kept.identity(os.lstat(self.drop / name), name) not in marks
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _claimed(self, name: str) -> list[Path]:
        with suppress(FileNotFoundError), os.scandir(self.drop / CLAIMS) as claims:
            return [Path(claim.path) / name for claim in claims]
        return []

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(names.order(name)).hexdigest()[:32]}{_RECORD}"


def _load(path: Path) -> Handed | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Handed(**{**content, "handed_at": datetime.fromisoformat(content["handed_at"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # Its object is fetched once more.
