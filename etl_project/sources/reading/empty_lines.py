"""Empty lines: refusing a text file that consists of hardly anything else, before it has taken minutes to read.

Belongs here: counting them where there are very many. Does not belong here: what an empty line means (the formats);
files that unpack too far (`compression`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from etl_project.sources.reading.file_refused import FileRefused

if TYPE_CHECKING:
    from etl_project.sources.reading.file_format import SourceFile
    from etl_project.sources.spec import SourceSpec

SAFE_LINES = 1_000_000
"""So many empty lines any file may have."""

_SHORT_BYTES = 8
"""Where lines have more bytes than this, their ends among them, most of them are not empty, and nothing is counted."""


class EmptyLines:
    """Watches the blocks of one file. A file of the archive had few enough once, and is not watched."""

    def __init__(self, file: SourceFile, spec: SourceSpec) -> None:
        self._ratio = spec.layout.max_empty_lines_ratio
        self._is_watched = not file.accepted
        self._lines = self._empty = 0

    def see(self, block: bytes, lines: int) -> None:
        """Count a block with so many line ends. Raises FileRefused once the file has too many that end nothing."""
        self._lines += lines
        if not lines or not self._is_watched or _SHORT_BYTES * lines < len(block):
            return
        ends = np.frombuffer(block.translate(None, b" \t\r"), np.uint8) == ord("\n")
        self._empty += int(np.count_nonzero(ends[1:] & ends[:-1])) + int(ends[0])
        others = self._lines - self._empty
        if self._empty > max(SAFE_LINES, self._ratio * others):
            found = f"{self._empty} empty lines and {others} others, and more to come"
            expected = f"at most {self._ratio} to each other line (max_empty_lines_ratio) beyond {SAFE_LINES}"
            raise FileRefused("hardly anything but empty lines", found, expected)
