"""Claim: how a file leaves the drop folder without ever taking a newer one along.

Belongs here: removing exactly the file that was read. Does not belong here: what was done with it before (`admit`).

A sender may put a newer file under the same name at any moment, so a plain unlink could remove a file that nobody has
read. The file is therefore renamed into `.taken/<unique>/` first, where no sender can open it, then compared with what
was read. The same, and nobody has it open for writing: it is removed. Else it goes back, or stays in its claim where a
still newer one has its name by now. What lies in `.taken/`, after a kill too, is found by the next scan.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etl_project import faults
from etl_project.sources.intake.scan import CLAIMS, Entry, Waiting
from etl_project.sources.intake.writers import Writers


@contextmanager
def claim(folder: Path) -> Iterator[Path]:
    """A place through which files may leave the drop folder one after the other; gone afterwards unless one stays."""
    own = folder / CLAIMS / uuid.uuid4().hex
    own.mkdir(parents=True)
    try:
        yield own
    finally:
        for parent, _, _ in os.walk(own, topdown=False):
            _forget(Path(parent), folder)


def remove(folder: Path, entry: Entry | Waiting, through: Path | None = None) -> None:
    """Take the file out of the drop folder if it still is the one that was read; one that changed or is open stays.

    Nothing happens when it has gone already. A kill leaves it in place, in `.taken/`, or removed. `through`: a claim
    that serves many files.
    """
    if through is None:
        with claim(folder) as own:
            remove(folder, entry, own)
        return
    claimed = through / entry.name
    if os.path.lexists(claimed):
        remove(folder, entry)  # The claim has a file of this name that had to stay.
        return
    if not claimed.parent.is_dir():
        claimed.parent.mkdir(parents=True, exist_ok=True)
    try:
        with suppress(FileNotFoundError):
            os.rename(entry.path, claimed)
            faults.reach("incoming.after_claim")
            # Whoever writes to it has opened it before it was renamed: nobody finds it after that.
            if not Writers().have_path(os.fspath(claimed)) and _same(claimed, entry):
                os.unlink(claimed)
            else:
                _put_back(claimed, folder / entry.name)
        faults.reach("incoming.after_removal")
    finally:
        if entry.folder != os.fspath(folder):  # It lay in a claim.
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
    """Link never replaces: whoever has taken the name meanwhile is newer.

    Then, and where a file system has no hard links, the file waits in its claim, in which the next scan finds it, as
    older than what has its name: nobody has read it in full.
    """
    with suppress(OSError):
        os.link(claimed, place, follow_symlinks=False)
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
