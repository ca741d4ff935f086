"""Footers remembered: the newest commit record of every file of an asset, without opening files that did not change.

Belongs here: a cache of records in one JSON file an asset, and nothing that could lie: an entry counts only while the
file has the inode, the modification time and the size that it had when it was read, and every write of a partition
makes a new file. The cache may be deleted at any time; where it cannot be written, every look reads all footers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from etl_project import atomic
from etl_project.storage.contract import Commit
from etl_project.storage.judging.commits import from_fields, to_fields

_VERSION = 1


class Footers:
    """The records of one asset's files, read at most once per version of a file."""

    def __init__(self, path: Path) -> None:
        """`path`: the cache file; it need not exist."""
        self._path = path

    def records(self, files: Iterable[str], read: Callable[[str], Commit | None]) -> list[Commit]:
        """The record of each file that has one. Files that are new to the cache are `read` and remembered."""
        known, seen = self._known(), {}
        for file in files:
            try:
                status = os.stat(file)
            except FileNotFoundError:
                continue
            version = [status.st_ino, status.st_mtime_ns, status.st_size]
            entry = known.get(file)
            if entry is None or entry[0] != version:
                record = read(file)
                entry = [version, to_fields(record) if record is not None else None]
            seen[file] = entry
        if seen != known:
            self._remember(seen)
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
