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
    content = None if file.content is not None else of(file.path, file.name, spec)
    return file if content is None else file._replace(content=content)


def of(path: str | os.PathLike[str], name: str, spec: SourceSpec) -> bytes | None:
    """The content of the file with this name, where it is small and plain text."""
    if spec.format not in _TEXT_FORMATS or spec.layout.compression != "name" or name.endswith(_COMPRESSED):
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, SMALL_BYTES + 1)
        whole = not content or (len(content) <= SMALL_BYTES and not os.read(descriptor, 1))
        return content if whole else None
    finally:
        os.close(descriptor)
