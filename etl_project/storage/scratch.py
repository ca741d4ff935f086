"""Scratch: folders for what does not fit into memory, which outlive nobody for long.

Belongs here: a folder beside the data (not in the system's temporary folder, which may be small or held in memory) that
is gone with the block, and the sweeping of those that a killed process left. Who is alive is told by the operating
system's lock on the folder, which goes with its process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER = ".etl-scratch"

_TRIES = 3
"""The last one to leave takes `.etl-scratch` along, perhaps while another one is about to make its folder in it."""


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """A folder of one's own in `beside`/.etl-scratch, empty, for as long as the block lasts.

    A kill leaves it behind; the next call sweeps it. Where there is no such folder, or nothing may be written in it, it
    lies in the system's temporary folder.
    """
    made = next(filter(None, (_made(beside / FOLDER) for _ in range(_TRIES))), None)
    if made is None:
        with tempfile.TemporaryDirectory(prefix="etl-duckdb-") as temporary:
            yield Path(temporary)
        return
    folder, lock = made
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        with suppress(OSError):  # Somebody else has a folder in it.
            folder.parent.rmdir()


def _made(parent: Path) -> tuple[Path, int] | None:
    """A new folder and the lock on it; None where none can be made. Left-over ones are removed on the way."""
    try:
        parent.mkdir(exist_ok=True)
        turn = _locked(parent, fcntl.LOCK_EX)
    except OSError:
        return None
    try:
        _sweep(parent)
        folder = Path(tempfile.mkdtemp(prefix="duckdb-", dir=parent))
        return folder, _locked(folder, fcntl.LOCK_SH)
    except OSError:
        return None
    finally:
        os.close(turn)


def _sweep(parent: Path) -> None:
    """Remove folders whose process is gone. Made and swept in turn, so that none is met before it is locked."""
    with os.scandir(parent) as entries:
        for entry in entries:
            with suppress(OSError):
                lock = _locked(Path(entry.path), fcntl.LOCK_EX | fcntl.LOCK_NB)
                try:
                    shutil.rmtree(entry.path)
                finally:
                    os.close(lock)


def _locked(folder: Path, how: int) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
