"""Atomic file writes: the one order of steps in which a file may come into being here.

Belongs here: writing, moving and removing files so that a kill at any instruction leaves the old state or the new one.
The order is always: temporary sibling with a unique name, fsync, rename, fsync of the folder. A kill may leave a
temporary file (its name starts with `.etl-` and ends in `.tmp`), never half a target.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl_project import faults

TEMPORARY_PREFIX = ".etl-"
TEMPORARY_SUFFIX = ".tmp"


def temporary_sibling(target: Path) -> Path:
    """A name beside `target` that nobody else uses and that every scan ignores."""
    return target.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"


@contextmanager
def replacing(target: Path, step: str) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `target` in one rename when the block ends well.

    `step` names the fault points `<step>.before_rename` and `<step>.after_rename`. An exception in the block removes
    the temporary file and leaves `target` as it was.
    """
    make_folder(target.parent)
    temporary = temporary_sibling(target)
    try:
        yield temporary
        sync_file(temporary)
        faults.reach(f"{step}.before_rename")
        os.rename(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)
    faults.reach(f"{step}.after_rename")


def make_folder(folder: Path) -> None:
    """Create the folder and its parents durably; existing ones cost one stat."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Flush the file's content to the disk."""
    _fsync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Flush the folder's entries to the disk: without it a rename may be forgotten by a power cut."""
    _fsync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
