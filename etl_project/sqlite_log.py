"""Where SQLite may keep its write-ahead log: asked before any of this project's SQLite files is made.

Belongs here: the one question whether the disk allows it. Does not belong here: opening a file; each floor does that.
"""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = 4096
"""SQLite lengthens the memory that processes share by one byte in each of these."""


def fits(folder: Path) -> bool:
    """Whether a write-ahead log in this folder bears a full disk.

    SQLite maps the log's index from a file whose pages it has made sure of by one byte each. Where the disk's blocks
    are smaller than a page (ext4 of less than 512 MiB), the rest of the page is a hole: with no room to fill it, the
    kernel ends whoever writes there with SIGBUS. There a file keeps SQLite's rollback journal, which maps nothing. A
    file that has a log already keeps it. Source: `unixShmMap` in https://sqlite.org/src/file/src/os_unix.c.
    """
    return os.statvfs(folder).f_frsize >= _PAGE_BYTES
