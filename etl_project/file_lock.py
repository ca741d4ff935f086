"""File lock: one process at a time does something, and a kill lets go.

Belongs here: an exclusive lock on a file made for it. Does not belong here: the task locks (`exclusion`), which name
their holder and wait; whoever finds this lock taken comes back later. What is locked is a file open for writing: NFS
locks nothing else, no folder.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from etl_project import atomic
from etl_project.failures import Busy


@contextmanager
def held(path: Path, busy: Busy, *, folder_too: Path | None = None) -> Iterator[None]:
    """Hold the lock of this file, which is made where it is not there, and stays. Raises `busy` while another does.

    `folder_too`: what processes of an older version lock in its stead; it is locked as well, where folders can be.
    """
    atomic.make_folder(path.parent)
    with ExitStack() as opened:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        opened.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder_too is not None:
                folder = os.open(folder_too, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                opened.callback(os.close, folder)
                _lock_folder(folder)
        except BlockingIOError:
            raise busy from None
        yield


def _lock_folder(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return  # No version can lock it here.
