"""Versions of partitions in the lake: files that were replaced, in a hidden folder of the lake's root.

Belongs here: keeping a file that is about to be replaced, letting go of what is too old, finding versions again. They
lie in `.versions/<asset>/<partition>/<sequence>.version`: outside of the assets' folders and under no name that ends in
`.parquet`, so whoever reads an asset, or all of the lake's Parquet files, never meets one.

A version is a second name (a hard link) for the file that is there, made before the rename that replaces it: nothing is
copied where the file system has links. A kill between the two leaves the file under both names, which counts as no
version, and the next write of the partition puts it right.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from etl_project import atomic, faults
from etl_project.storage.contract import Commit, Table, Version
from etl_project.storage.judging.versions import outlived, replaced_by
from etl_project.storage.lake import footer
from etl_project.storage.lake.names import encoded

FOLDER = ".versions"
_SUFFIX = ".version"


class FolderVersions:
    """The versions below one root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def keep(self, asset: str, commit: Commit, file: Path) -> None:
        """Keep the file, which holds what `commit` left there; it is on the disk when this returns."""
        target = self._path(asset, commit.partition, commit.sequence)
        atomic.make_folder(target.parent)
        temporary = atomic.temporary_sibling(target)
        try:
            _second_name(file, temporary)
            os.rename(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)  # Renaming one name of a file to another one of it does nothing.
        atomic.sync_folder(target.parent)
        faults.reach("parquet.version_kept")

    def forget(self, table: Table, commit: Commit) -> None:
        """Remove what is more than is kept now that `commit` is there, and what no commit has replaced."""
        folder = self._folder(table.asset, commit.partition)
        if not folder.is_dir():
            return
        found = sorted(_files(folder))
        earlier = [(number, file) for number, file in found if number < commit.sequence]

        def replaced_at(n: int) -> datetime | None:
            records = footer.intact_history(earlier[n + 1][1]) if n + 1 < len(earlier) else [commit]
            return replaced_by(records, earlier[n][0])

        kept = earlier[outlived(table, len(earlier), commit.committed_at, replaced_at) :]
        for file in {file for _, file in found} - {file for _, file in kept}:
            file.unlink(missing_ok=True)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(atomic.TEMPORARY_PREFIX):
                    Path(entry.path).unlink(missing_ok=True)

    def of(self, asset: str, key: str | None, head: Commit | None) -> list[Version]:
        """The kept versions of a partition, oldest first; without a file in its place, all of them."""
        found = sorted(_files(self._folder(asset, key)))
        return as_versions(((number, footer.intact_record(file)) for number, file in found), head)

    def file(self, asset: str, key: str | None, sequence: int) -> Path | None:
        """A kept version; None where it is not kept."""
        path = self._path(asset, key, sequence)
        return path if path.is_file() else None

    def newest_history(self, asset: str, key: str | None) -> list[Commit]:
        """The records of the newest version: where the partition's own file is gone, its numbers go on from there."""
        found = sorted(_files(self._folder(asset, key)), reverse=True)
        return next((records for _, file in found if (records := footer.intact_history(file))), [])

    def _folder(self, asset: str, key: str | None) -> Path:
        return self._root / folder_of(asset, key)

    def _path(self, asset: str, key: str | None, sequence: int) -> Path:
        return self._folder(asset, key) / name_of(sequence)


def folder_of(asset: str, key: str | None) -> str:
    """Where below the root the versions of a partition lie."""
    return f"{FOLDER}/{encoded(asset)}/{'all' if key is None else f'={encoded(key)}'}"


def name_of(sequence: int) -> str:
    """The name of a version in its folder."""
    return f"{sequence:012}{_SUFFIX}"


def sequence_of(name: str) -> int | None:
    """The number of the version of that name; None where it is no version's."""
    number = name.removesuffix(_SUFFIX)
    return int(number) if name.endswith(_SUFFIX) and number.isdigit() else None


def as_versions(found: Iterable[tuple[int, Commit | None]], head: Commit | None) -> list[Version]:
    """Those that another commit has replaced: a kill between keeping and replacing leaves one more."""
    return [
        Version(number, record.rows, record)
        for number, record in found
        if record is not None and (head is None or number < head.sequence)
    ]


def _second_name(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # No links here: the bytes once more.
        shutil.copyfile(file, target)
        atomic.sync_file(target)


def _files(folder: Path) -> Iterator[tuple[int, Path]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            number = sequence_of(entry.name)
            if number is not None:
                yield number, Path(entry.path)
