"""Versions of partitions in a bucket: objects that were replaced, under a hidden prefix.

Belongs here: keeping the object that is about to be replaced, letting go of what is too old, finding versions again;
names are those of `versions`. What is kept is the local copy that was judged, byte for byte: a copy made by the server
could be one of another version. A kill between keeping and replacing leaves one too many, which counts as none.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from etl_project import faults
from etl_project.storage.contract import Commit, Table, Version
from etl_project.storage.judging.versions import outlived, replaced_by
from etl_project.storage.lake import footer
from etl_project.storage.lake.copies import Copies, tail_of
from etl_project.storage.lake.objects import Objects
from etl_project.storage.lake.versions import as_versions, folder_of, name_of, sequence_of


class BucketVersions:
    """The versions below one prefix."""

    def __init__(self, objects: Objects, copies: Copies) -> None:
        self._objects = objects
        self._copies = copies

    def keep(self, asset: str, commit: Commit, file: Path) -> None:
        """Keep the file, which holds what `commit` left there; it is in the bucket when this returns."""
        self._objects.overwrite(f"{folder_of(asset, commit.partition)}/{name_of(commit.sequence)}", file)
        faults.reach("bucket.version_kept")

    def forget(self, table: Table, commit: Commit) -> None:
        """Remove what is more than is kept now that `commit` is there.

        Not the version of `commit` itself, nor later ones: nobody is alone here, and another writer may have replaced
        it already. One that no commit has replaced counts as none, and is written over by the one that does.
        """
        found = self._found(table.asset, commit.partition)
        earlier = [(number, key) for number, key in found if number < commit.sequence]

        def replaced_at(n: int) -> datetime | None:
            records = self._records(earlier[n + 1][1]) if n + 1 < len(earlier) else [commit]
            return replaced_by(records, earlier[n][0])

        gone = outlived(table, len(earlier), commit.committed_at, replaced_at)
        self._objects.remove([key for _, key in earlier[:gone]])

    def of(self, asset: str, key: str | None, head: Commit | None) -> list[Version]:
        """The kept versions of a partition, oldest first; without an object in its place, all of them."""
        return as_versions(((number, _intact(self._records(name))) for number, name in self._found(asset, key)), head)

    def file(self, asset: str, key: str | None, sequence: int) -> Path | None:
        """A copy of a kept version; None where it is not kept."""
        copy = self._copies.of(f"{folder_of(asset, key)}/{name_of(sequence)}")
        return None if copy is None else copy.path

    def newest_history(self, asset: str, key: str | None) -> list[Commit]:
        """The records of the newest version: where the partition's own object is gone, its numbers go on from there."""
        found = reversed(self._found(asset, key))
        return next((records for _, name in found if (records := self._records(name))), [])

    def _records(self, key: str) -> list[Commit]:
        found = tail_of(self._objects, key)
        return [] if found is None else footer.intact_history(footer.of_tail(found[0]))

    def _found(self, asset: str, key: str | None) -> list[tuple[int, str]]:
        named = (
            (sequence_of(one.key.rpartition("/")[2]), one.key) for one in self._objects.below(folder_of(asset, key))
        )
        return sorted((number, key) for number, key in named if number is not None)


def _intact(records: list[Commit]) -> Commit | None:
    return records[-1] if records else None
