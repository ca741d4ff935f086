"""Compression: how the bytes of a file are packed, and the file without its packing.

Belongs here: telling the packing by the name or by the first bytes, opening it, and the limits on what comes out of it.
Does not belong here: which members of a ZIP archive are read (`members`), what the bytes mean (`stream`).

A few kilobytes can unpack to gigabytes, and reading those takes minutes. So a file is refused as soon as it has given
both more than SAFE_BYTES and more than `max_expanded_ratio` times what was read of it: data that is worth keeping
hardly ever shrinks to a hundredth.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from etl_project.sources.reading.file_refused import FileRefused

if TYPE_CHECKING:
    from etl_project.sources.reading.file_format import SourceFile
    from etl_project.sources.spec import SourceSpec

SAFE_BYTES = 64 * 2**20
"""So much may come out of any file."""

PIECE_BYTES = 4 * 2**20
SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "zip": ".zip"}
_FIRST_BYTES = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "zip": b"PK\x03\x04"}


def kind_of(file: SourceFile, spec: SourceSpec) -> str:
    """How the file is packed: gzip, zstd, zip, or none.

    Raises FileRefused for a file that is packed although neither its name nor its source says so: as text it would be
    noise.
    """
    said = spec.layout.compression
    if said not in ("name", "auto"):
        return said
    by_name = next((kind for kind, suffix in SUFFIXES.items() if file.name.endswith(suffix)), "none")
    if said == "name" and by_name != "none":
        return by_name
    first = file.content[:4] if file.content is not None else _first_bytes(file)
    found = next((kind for kind, magic in _FIRST_BYTES.items() if first.startswith(magic)), "none")
    if said == "name" and found != "none":
        expected = f"a name that ends in {SUFFIXES[found]}, or text; `compression: auto` goes by the bytes of a file"
        raise FileRefused("compressed under another name", f"{found}-compressed bytes", expected)
    return found


def _first_bytes(file: SourceFile) -> bytes:
    with file.path.open("rb") as opened:
        return opened.read(4)


def pieces(file: SourceFile, spec: SourceSpec) -> Iterator[bytes]:
    """The unpacked bytes, piece by piece. Raises FileRefused for a broken, a locked or an oversized archive."""
    kind = kind_of(file, spec)
    if kind == "none" and file.content is not None:
        refuse_large(len(file.content), len(file.content), file, spec)
        yield from (file.content,) if file.content else ()
        return
    total = 0
    try:
        with (
            file.path.open("rb", buffering=0 if kind in ("gzip", "zstd") else -1) as raw,
            _opened(raw, file, kind) as source,
        ):
            size = file.path.stat().st_size
            while piece := source.read(PIECE_BYTES):
                total += len(piece)
                refuse_large(total, size if kind == "zip" else raw.tell(), file, spec)
                yield piece
    except (EOFError, zlib.error, pa.ArrowException, zipfile.BadZipFile, NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise FileRefused("broken compressed file", str(error), f"a complete {SUFFIXES[kind][1:]} file") from None


def refuse_large(expanded: int, packed: int, file: SourceFile, spec: SourceSpec) -> None:
    """Raise FileRefused where so many packed bytes give so many. A file of the archive was small enough once."""
    if expanded > spec.max_expanded_bytes:
        expected = f"at most {spec.max_expanded_bytes} bytes (max_expanded_bytes)"
        raise FileRefused("too large once decompressed", f"more than {spec.max_expanded_bytes} bytes", expected)
    ratio = spec.layout.max_expanded_ratio
    if expanded > max(SAFE_BYTES, ratio * packed) and not file.accepted:
        found = f"{expanded} bytes and more out of {packed}"
        expected = f"at most {ratio} times its size (max_expanded_ratio) beyond {SAFE_BYTES} bytes"
        raise FileRefused("too large for its size once decompressed", found, expected)


@contextmanager
def _opened(raw: IO[bytes], file: SourceFile, kind: str) -> Iterator[IO[bytes] | Any]:
    if kind == "gzip":
        with gzip.GzipFile(fileobj=raw) as source:
            yield source
    elif kind == "zstd":
        with pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd") as source:
            yield source
    elif kind == "zip":
        with zipfile.ZipFile(raw) as archive, archive.open(file.member) as source:
            yield source
    else:
        yield raw
