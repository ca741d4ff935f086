"""The sink: the temporary file that an upload is written to, never so that it fills the disk.

Belongs here: its bytes on the way to the disk, and the room that is left there. Does not belong here: its name and what
becomes of it (`claims`).
"""

from __future__ import annotations

import logging
import os
from io import FileIO
from pathlib import Path

from etl_project.http_in import problems
from etl_project.http_in.database import LEAST_BYTES, free_bytes

_LOG = logging.getLogger("etl.receiver")
_BUFFER_BYTES = 1 << 20


def refuse_without_room(folder: Path, size_bytes: int) -> None:
    """507 unless that much and the records fit on the disk: what is refused before it is written fills no disk."""
    free = free_bytes(folder)
    if free < size_bytes + LEAST_BYTES:
        _LOG.error("%s: %d bytes are free, %d more are needed", folder, free, size_bytes + LEAST_BYTES)
        raise problems.disk_full()


class Sink:
    """The temporary file of one upload. It comes into being with the first write, in a thread, not before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buffer = bytearray()
        self._file: FileIO | None = None

    def add(self, chunk: bytes) -> bool:
        """Take a piece; True when there is enough to be written."""
        self._buffer += chunk
        return len(self._buffer) >= _BUFFER_BYTES

    def write(self) -> None:
        """Write what has been gathered."""
        if self._file is None:
            self._file = FileIO(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb")
        refuse_without_room(self._path.parent, len(self._buffer))
        view = memoryview(self._buffer)
        while view:
            view = view[self._file.write(view) :]
        self._buffer = bytearray()

    def finish(self) -> None:
        """The whole content is on the disk; to land it makes its name durable too."""
        self.write()
        assert self._file is not None
        os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        """Close the file; what was not written is dropped."""
        if self._file is not None:
            self._file.close()
