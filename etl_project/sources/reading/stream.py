"""Stream: the bytes of a file as blocks of complete lines of valid UTF-8, within limits.

Belongs here: character encoding, and the limit that keeps a hostile line from filling memory. Does not belong here: how
the bytes are packed (`compression`), what a line means (the formats).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from etl_project.sources.reading import compression
from etl_project.sources.reading.empty_lines import EmptyLines
from etl_project.sources.reading.file_refused import FileRefused

if TYPE_CHECKING:
    from etl_project.sources.reading.file_format import SourceFile
    from etl_project.sources.spec import SourceSpec

_BOM = codecs.BOM_UTF8
HIDDEN_UTF8 = "UTF-8 under another name"
HIDDEN_CP1252 = "cp1252 under another name"
_CONTROLS = re.compile(b"[\x80-\x9f]")
"""In ISO 8859 control characters that no text has; in Windows' code pages letters and signs, like the euro's."""


def text_blocks(file: SourceFile, spec: SourceSpec) -> Iterator[bytes]:
    """Blocks of whole lines: valid UTF-8 without NUL and byte order mark; only the last may lack its line end.

    Memory: a few blocks.
    Raises FileRefused for a file that is empty, truncated, wrongly encoded, or beyond `max_line_bytes` /
    `max_expanded_bytes`; what was yielded before then came from a file that must not be used.
    """
    rest = b""
    line = 1
    first = True
    empty_lines = EmptyLines(file, spec)
    for decoded in _lines_ended(_utf8(file, spec), spec):
        piece = decoded.removeprefix(_BOM) if first else decoded
        first = False
        cut = piece.rfind(b"\n") + 1
        if cut == 0:
            rest += piece
            _refuse_long_line(rest, line, spec)
            continue
        block = rest + piece[:cut]
        rest = piece[cut:]
        _refuse_unreadable(block, line, spec)
        lines = _lines(block)
        empty_lines.see(block, lines)
        yield block
        line += lines
    if file.passed is not None:
        file.passed.lines += line - 1 + bool(rest)
    if rest:
        _refuse_unreadable(rest, line, spec)
        yield rest
    elif line == 1:
        raise FileRefused("empty file", "0 bytes", "at least one line")


def _lines_ended(pieces: Iterator[bytes], spec: SourceSpec) -> Iterator[bytes]:
    """The pieces with LF for every line end, where a carriage return alone may be one."""
    if spec.layout.line_ends == "lf":
        yield from pieces
        return
    held = b""
    for piece in pieces:
        text = held + piece
        held = b"\r" if text.endswith(b"\r") else b""
        yield text.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if held:
        yield b"\n"


def texts(file: SourceFile, spec: SourceSpec) -> Iterator[str]:
    """The text in pieces cut anywhere, without byte order mark. Raises as `text_blocks`, but not for long lines."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    line, first = 1, True
    empty_lines = EmptyLines(file, spec)
    for piece in chain(_utf8(file, spec), (b"",)):
        held, _ = decoder.getstate()
        whole = held + piece
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise _wrong_encoding(whole, error, line, spec) from None
        _refuse_nul(whole, line, spec)
        lines = text.count("\n")
        empty_lines.see(piece, lines)
        line += lines
        yield text.removeprefix("\ufeff") if first else text
        first = first and not text
    if file.passed is not None:
        file.passed.lines += line


def _utf8(file: SourceFile, spec: SourceSpec) -> Iterator[bytes]:
    """The pieces in UTF-8; those that should be UTF-8 already are passed on as they are, and checked later."""
    pieces = compression.pieces(file, spec)
    if codecs.lookup(spec.encoding).name in ("utf-8", "utf-8-sig"):
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder(spec.encoding)("strict")
    try:
        for piece in watched(pieces, spec, passes_controls=file.accepted):
            yield decoder.decode(piece).encode("utf-8")
        yield decoder.decode(b"", final=True).encode("utf-8")
    except UnicodeError as error:
        raise FileRefused("wrong encoding", str(error), f"text in {spec.encoding}") from None


def watched(pieces: Iterator[bytes], spec: SourceSpec, *, passes_controls: bool) -> Iterator[bytes]:
    """The pieces, unless their letters beyond ASCII can hardly be of the declared encoding.

    Raises FileRefused at the end of such a file: read as declared, it would be garbled without a word. That is one in
    UTF-8, and, unless `passes_controls`, one in a code page of Windows that ISO 8859 is said of.
    """
    name = codecs.lookup(spec.encoding).name
    if spec.valid_utf8 == "as_declared" or name.startswith("utf"):
        yield from pieces
        return
    utf8: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder("utf-8")("strict")
    ascii_only, line, control = True, 1, ""
    looks_for_controls = name.startswith("iso8859") and not passes_controls
    for piece in pieces:
        try:
            if utf8 is not None and not (ascii_only and piece.isascii()):
                ascii_only = False
                utf8.decode(piece)
        except UnicodeDecodeError:
            utf8 = None
        if looks_for_controls and not control:
            found = _CONTROLS.search(piece)
            if found:
                where = line + piece.count(b"\n", 0, found.start())
                control = f"byte 0x{found[0][0]:02X} in line {where}"
            line += piece.count(b"\n")
        yield piece
    as_declared = "`valid_utf8: as_declared` as they are declared"
    if utf8 is not None and not ascii_only and not utf8.getstate()[0]:
        expected = f"`encoding: [utf-8, {spec.encoding}]` reads such files as UTF-8, {as_declared}"
        raise FileRefused(HIDDEN_UTF8, "valid UTF-8 with letters beyond ASCII", f"text in {spec.encoding}; {expected}")
    if control:
        expected = f"`encoding: cp1252` (or another code page) reads such bytes as letters, {as_declared}"
        said = f"{control}, a control character in {spec.encoding}"
        raise FileRefused(HIDDEN_CP1252, said, f"text in {spec.encoding}; {expected}")


def _refuse_unreadable(block: bytes, line: int, spec: SourceSpec) -> None:
    """`line` is the number of the block's first line."""
    _refuse_nul(block, line, spec)
    if not block.isascii():
        try:
            block.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _wrong_encoding(block, error, line, spec) from None
    _refuse_long_line(block, line, spec)


def _refuse_nul(block: bytes, line: int, spec: SourceSpec) -> None:
    nul = block.find(b"\0")
    if nul >= 0:
        where = line + block.count(b"\n", 0, nul)
        raise FileRefused("binary content", f"a NUL byte in line {where}", f"{spec.format} text in {spec.encoding}")


def _wrong_encoding(block: bytes, error: UnicodeDecodeError, line: int, spec: SourceSpec) -> FileRefused:
    where = line + block.count(b"\n", 0, error.start)
    found = f"byte 0x{block[error.start]:02X} in line {where} ({error.reason})"
    return FileRefused("wrong encoding", found, f"text in {spec.encoding}")


def _refuse_long_line(block: bytes, line: int, spec: SourceSpec) -> None:
    if _has_only_short_lines(block, spec.max_line_bytes):
        return
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
    lengths = np.diff(ends, prepend=-1, append=len(block)) - 1
    worst = int(lengths.argmax())
    found = f"line {line + worst} with at least {lengths[worst]} bytes"
    raise FileRefused("line too long", found, f"at most {spec.max_line_bytes} bytes a line (max_line_bytes)")


def _has_only_short_lines(block: bytes, most: int) -> bool:
    """Goes from line end to line end by the largest step allowed, so that few of them are looked at."""
    start = 0
    while len(block) - start > most:
        end = block.rfind(b"\n", start, start + most + 1)
        if end < 0:
            return False
        start = end + 1
    return True


def _lines(block: bytes) -> int:
    """The number of line ends (numpy counts them twice as fast as bytes do)."""
    return int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n")))
