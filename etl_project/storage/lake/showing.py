"""Showing: a lake as it would be with another file in the place of one partition's.

Belongs here: what reading asks of a lake, answered with that file. Nothing is written through it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from etl_project.storage.contract import Commit, Table
from etl_project.storage.lake import footer
from etl_project.storage.lake.files import Files


class With:
    """The files of another lake, with a local file as that of one partition."""

    def __init__(self, there: Files, table: Table, key: str | None, file: Path) -> None:
        self._there, self._asset, self._key, self._file = there, table.asset, key, file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._there, name)

    def __str__(self) -> str:
        return str(self._there)

    def newest(self, table: Table) -> Path | None:
        """The file is the newest one of its asset."""
        return self._file if table.asset == self._asset else self._there.newest(table)

    def local(self, table: Table, keys: Collection[str | None]) -> dict[str | None, Path]:
        """The file for its partition."""
        if table.asset != self._asset or self._key not in keys:
            return self._there.local(table, keys)
        return {**self._there.local(table, [key for key in keys if key != self._key]), self._key: self._file}

    def records(
        self, assets: Iterable[str] | None = None, partitions: Collection[str | None] | None = None
    ) -> Iterator[Commit]:
        """The record in the file for its partition."""
        named = None if assets is None else list(assets)
        for record in self._there.records(named, partitions):
            if (record.asset, record.partition) != (self._asset, self._key):
                yield record
        own = footer.intact_record(self._file)
        if own is not None and (named is None or self._asset in named) and (not partitions or self._key in partitions):
            yield own

    def history(self, asset: str, partition: str | None) -> list[Commit]:
        """The records in the file for its partition."""
        if (asset, partition) == (self._asset, self._key):
            return footer.history(self._file)
        return self._there.history(asset, partition)

    def keys(self, asset: str) -> list[str | None]:
        """Its partition has a file."""
        found = self._there.keys(asset)
        return found if asset != self._asset or self._key in found else [*found, self._key]
