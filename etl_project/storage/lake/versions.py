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
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from etl_project import atomic, faults
from etl_project.storage.contract import Commit, Version
from etl_project.storage.lake import layout

FOLDER = ".versions"
_SUFFIX = ".version"


def keep(root: Path, asset: str, commit: Commit, file: Path) -> None:
    """Keep the file, which holds what `commit` left there; it is on the disk when this returns."""
    target = path(root, asset, commit.partition, commit.sequence)
    atomic.make_folder(target.parent)
    temporary = atomic.temporary_sibling(target)
    try:
        _second_name(file, temporary)
        os.rename(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)  # Renaming one name of a file to another one of it does nothing.
    atomic.sync_folder(target.parent)
    faults.reach("parquet.version_kept")


def forget(root: Path, asset: str, commit: Commit, keep_versions: int) -> None:
    """Remove what is more than is kept now that `commit` is there, and what no commit has replaced."""
    folder = _folder(root, asset, commit.partition)
    if not folder.is_dir():
        return
    found = sorted(_files(folder))
    kept = [file for number, file in found if number < commit.sequence][-keep_versions:]
    for file in {file for _, file in found} - set(kept):
        file.unlink(missing_ok=True)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(atomic.TEMPORARY_PREFIX):
                Path(entry.path).unlink(missing_ok=True)


def of(root: Path, asset: str, key: str | None, head: Commit | None) -> list[Version]:
    """The kept versions of a partition, oldest first; without a file in its place, all of them."""
    found = sorted(_files(_folder(root, asset, key)))
    records = [(number, layout.intact_record(file)) for number, file in found]
    return [
        Version(number, record.rows, record)
        for number, record in records
        if record is not None and (head is None or number < head.sequence)
    ]


def path(root: Path, asset: str, key: str | None, sequence: int) -> Path:
    """Where a version lies, if it is kept."""
    return _folder(root, asset, key) / f"{sequence:012}{_SUFFIX}"


def newest_history(root: Path, asset: str, key: str | None) -> list[Commit]:
    """The records of the newest version: where the partition's own file is gone, its numbers go on from there."""
    found = sorted(_files(_folder(root, asset, key)), reverse=True)
    return next((records for _, file in found if (records := layout.intact_history(file))), [])


def _second_name(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # No links here: the bytes once more.
        shutil.copyfile(file, target)
        atomic.sync_file(target)


def _files(folder: Path) -> Iterator[tuple[int, Path]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            number = entry.name.removesuffix(_SUFFIX)
            if entry.name.endswith(_SUFFIX) and number.isdigit():
                yield int(number), Path(entry.path)


def _folder(root: Path, asset: str, key: str | None) -> Path:
    return root / FOLDER / layout.encoded(asset) / ("all" if key is None else f"={layout.encoded(key)}")
