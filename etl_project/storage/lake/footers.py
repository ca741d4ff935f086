"""Footers remembered: the newest commit record of every file of an asset, without opening files that did not change.

Belongs here: a cache of records in one JSON file an asset, and nothing that could lie: an entry counts only while the
file has the version that it had when it was read (inode, modification time and size; the ETag of an object), and every
write of a partition makes a new one. The cache may be deleted at any time; where it cannot be written, every look reads
all footers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from etl_project import atomic
from etl_project.storage.contract import Commit
from etl_project.storage.judging.commits import from_fields, to_fields

_VERSION = 1

Version = Sequence[int | str]
"""What changes with every write of a file."""


class Footers:
    """The records of one asset's files, read at most once per version of a file."""

    def __init__(self, path: Path) -> None:
        """`path`: the cache file; it need not exist."""
        self._path = path

    def records(
        self,
        files: Iterable[tuple[str, Version]],
        read: Callable[[Sequence[str]], Iterable[Commit | None]],
        are_all: bool = True,
    ) -> list[Commit]:
        """The record of each file that has one. Files whose version is new are `read`, all at once, and remembered.

        Where `files` are not all that there are, the others stay remembered.
        """
        known, there = self._known(), dict(files)
        new = [file for file, version in there.items() if file not in known or known[file][0] != version]
        records = (None if record is None else to_fields(record) for record in read(new))
        fresh = dict(zip(new, records, strict=True))
        seen: dict[str, Any] = {
            file: [version, fresh[file]] if file in fresh else known[file] for file, version in there.items()
        }
        remembered = seen if are_all else known | seen
        if remembered != known:
            self._remember(remembered)
        return [from_fields(entry[1]) for entry in seen.values() if entry[1] is not None]

    def _known(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        found = content.get("files") if isinstance(content, dict) and content.get("version") == _VERSION else None
        return found if isinstance(found, dict) else {}

    def _remember(self, entries: dict[str, Any]) -> None:
        """One rename, without the flushing that only what cannot be made again needs."""
        temporary = atomic.temporary_sibling(self._path)
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_text(json.dumps({"version": _VERSION, "files": entries}, separators=(",", ":")))
                temporary.rename(self._path)
            finally:
                temporary.unlink(missing_ok=True)
