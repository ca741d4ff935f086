"""Small content: a small text file read in one go, before anybody asks what is in it.

Belongs here: which files these are. Does not belong here: judging them together (`small_files`).

Opening a file and asking for its size each time something is wanted of it takes longer than reading a few rows.
"""

from __future__ import annotations

import os

from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.spec import SourceSpec

SMALL_BYTES = 256 * 1024
_TEXT_FORMATS = ("csv", "tsv", "jsonl")
_COMPRESSED = (".gz", ".zst", ".zip")


def read(file: SourceFile, spec: SourceSpec) -> SourceFile:
    """The file with its content, where it is small and plain text; any other as it is."""
    if file.content is not None or not _is_plain_text(file, spec):
        return file
    descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, SMALL_BYTES + 1)
        whole = not content or (len(content) <= SMALL_BYTES and not os.read(descriptor, 1))
        return file._replace(content=content) if whole else file
    finally:
        os.close(descriptor)


def _is_plain_text(file: SourceFile, spec: SourceSpec) -> bool:
    return spec.format in _TEXT_FORMATS and spec.layout.compression == "name" and not file.name.endswith(_COMPRESSED)
