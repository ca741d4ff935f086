"""Claim: how a file leaves the drop folder without ever taking a newer one along.

Belongs here: removing exactly the file that was read. Does not belong here: what was done with it before (`receive`).

A sender may put a newer file under the same name at any moment, so a plain unlink could remove a file that nobody has
read. The file is therefore renamed into `.taken/<unique>/` first, where no sender can reach it, then compared with
what was read. The same: it is removed. Another: it goes back, unless a still newer one has its name by now. A kill in
between leaves it in `.taken/`, where the next scan finds it.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

from etl_project import faults
from etl_project.sources.intake.scan import CLAIMS, Entry, Waiting


def remove(folder: Path, entry: Entry | Waiting) -> None:
    """Take the file out of the drop folder if it still is the one that was read; a newer one stays.

    Nothing happens when it has gone already. A kill leaves it in place, in `.taken/`, or removed.
    """
    claimed = folder / CLAIMS / uuid.uuid4().hex / entry.name
    claimed.parent.mkdir(parents=True)
    try:
        with suppress(FileNotFoundError):
            os.rename(entry.path, claimed)
            faults.reach("incoming.after_claim")
            if _same(claimed, entry):
                os.unlink(claimed)
            else:
                _put_back(claimed, folder / entry.name)
        faults.reach("incoming.after_removal")
    finally:
        _forget(claimed.parent, folder)
        _forget(Path(entry.path).parent, folder)


def sweep(folder: Path, before: float) -> None:
    """Remove the empty claims that a kill has left before this instant (seconds since the epoch)."""
    for parent, _, _ in os.walk(folder / CLAIMS, topdown=False):
        with suppress(OSError):
            if Path(parent) != folder / CLAIMS and os.stat(parent).st_mtime < before:
                os.rmdir(parent)


def _same(path: Path, entry: Entry | Waiting) -> bool:
    stat = os.lstat(path)
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns) == (entry.inode, entry.size, entry.mtime_ns)


def _put_back(claimed: Path, place: Path) -> None:
    """Link never replaces: whoever has taken the name meanwhile is newer, and what was claimed is superseded.

    Where a file system has no hard links, the file waits in its claim, in which the next scan finds it.
    """
    try:
        os.link(claimed, place, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError:
        return
    os.unlink(claimed)


def _forget(parent: Path, folder: Path) -> None:
    """Remove the empty folders of a claim, from the inside out; folders of the sender's own are left alone.

    `.taken` itself stays: another thread may be about to make its claim in it.
    """
    while folder / CLAIMS in parent.parents:
        try:
            os.rmdir(parent)
        except OSError:
            return
        parent = parent.parent
