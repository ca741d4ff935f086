"""Encoding: in which character encoding a file most likely is.

Belongs here: the guess, from every byte of the file. UTF-8 and UTF-16 prove themselves; what is neither, and holds no
bytes that no text holds, is taken for Windows' western alphabet, of which Latin-1 is a part.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from etl_project.sources import FileRefused

_TEXT_CONTROLS = b"\t\n\x0b\x0c\r\x1a"
_CONTROLS = bytes(one for one in range(32) if one not in _TEXT_CONTROLS)
_NOT_CP1252 = b"\x81\x8d\x8f\x90\x9d"


def encoding_of(pieces: Iterator[bytes]) -> str:
    """The Python name of the encoding: utf-8, utf-16, utf-16-le, utf-16-be or cp1252. FileRefused for no text."""
    first = next(pieces, b"")
    wide = _wide(first)
    if wide:
        return wide
    utf8: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder("utf-8")("strict")
    unknown = False
    piece, following = first, next(pieces, b"")
    while piece:
        _refuse_binary(piece)
        unknown = unknown or _holds(piece, _NOT_CP1252)
        try:
            if utf8 is not None:
                utf8.decode(piece, final=not following)
        except UnicodeDecodeError:
            utf8 = None
        piece, following = following, next(pieces, b"")
    if utf8 is not None:
        return "utf-8"
    if unknown:
        raise FileRefused("unknown encoding", "bytes that are neither UTF-8 nor cp1252", "text, best in UTF-8")
    return "cp1252"


def _wide(first: bytes) -> str | None:
    """UTF-16 by its byte order mark, or because every other byte of its first letters is 0."""
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = first[: min(len(first), 512) // 2 * 2]
    for name, letters, zeros in (("utf-16-le", start[::2], start[1::2]), ("utf-16-be", start[1::2], start[::2])):
        if zeros and zeros.count(0) > 0.9 * len(zeros) and not _holds(letters, b"\0" + _CONTROLS):
            return name
    return None


def _refuse_binary(piece: bytes) -> None:
    if _holds(piece, _CONTROLS):
        raise FileRefused("binary content", "control characters", "csv, tsv, jsonl or Parquet, plain or as .gz or .zst")


def _holds(piece: bytes, some: bytes) -> bool:
    return len(piece.translate(None, delete=some)) != len(piece)
