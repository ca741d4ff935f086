"""Footer: what a Parquet file of the lake says about itself in its last bytes.

Belongs here: reading commit records and the types of a frame out of a footer, and telling a damaged file from one that
the system does not give. A source is a path, or a footer that is in memory already (`of_tail`).
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from etl_project.storage.contract import Commit
from etl_project.storage.judging.commits import from_json
from etl_project.storage.lake.draft import EARLIER, FRAME, RECORD

Source: TypeAlias = "Path | str | pa.NativeFile"
_T = TypeVar("_T")


def history(source: Source) -> list[Commit]:
    """The commit records in a file's footer, oldest first; none when there is no such file.

    Raises what reading a damaged footer raises: Arrow's errors, OSError, ValueError, KeyError, TypeError.
    """
    footer = _footer(source)
    if RECORD not in footer:
        return []
    earlier = [from_json(text) for text in json.loads(footer.get(EARLIER, b"[]"))]
    return [*earlier, from_json(footer[RECORD].decode())]


def frame_of(source: Source) -> bytes | None:
    """The types with which the rows of a file were written, where somebody said so."""
    return _frame(_footer(source))


def columns_of(source: Source) -> tuple[pa.Schema, bytes | None]:
    """The columns of a file that is there, and `frame_of` it."""
    found = pq.read_metadata(source)
    return found.schema.to_arrow_schema(), _frame(found.metadata or {})


def intact_frame(source: Source) -> bytes | None:
    """The same, None for a damaged file."""
    return _unless_damaged(lambda: frame_of(source), None)


def last_record(source: Source) -> Commit | None:
    """The newest commit record in a file's footer. Raises what `history` raises."""
    footer = _footer(source)
    return from_json(footer[RECORD].decode()) if RECORD in footer else None


def intact_history(source: Source) -> list[Commit]:
    """`history`, and none of a damaged file: what it held is lost, and its partition can only be written again."""
    return _unless_damaged(lambda: history(source), [])


def intact_record(source: Source) -> Commit | None:
    """`last_record`, and none of a damaged file."""
    return _unless_damaged(lambda: last_record(source), None)


def intact_head(source: Source) -> tuple[Commit | None, pa.Schema]:
    """`intact_record`, and the columns of that file; none of a damaged one."""

    def read() -> tuple[Commit | None, pa.Schema]:
        found = pq.read_metadata(source)
        said = (found.metadata or {}).get(RECORD)
        return nothing if said is None else (from_json(said.decode()), found.schema.to_arrow_schema())

    nothing: tuple[Commit | None, pa.Schema] = (None, pa.schema([]))
    with suppress(FileNotFoundError):
        return _unless_damaged(read, nothing)
    return nothing


def schema_of(source: Source) -> pa.Schema | None:
    """The columns of a file; None where there is none, or a damaged one."""
    with suppress(FileNotFoundError):
        return _unless_damaged(lambda: pq.read_schema(source), None)
    return None


def is_damaged(path: Path) -> bool:
    """Whether some row of the file cannot be read, although the system gives all of its bytes."""

    def read() -> bool:
        with pq.ParquetFile(path) as file:
            for _ in file.iter_batches():
                pass
        return False

    return _unless_damaged(read, True)


def of_tail(tail: bytes) -> pa.NativeFile:
    """The last bytes of a file, its whole footer among them, as something whose footer can be read."""
    return pa.BufferReader(tail)


def _frame(footer: Mapping[bytes, bytes]) -> bytes | None:
    found = footer.get(FRAME)
    return None if found is None else b64decode(found)


def _footer(source: Source) -> Mapping[bytes, bytes]:
    try:
        return pq.read_metadata(source).metadata or {}
    except FileNotFoundError:
        return {}


def _unless_damaged(read: Callable[[], _T], otherwise: _T) -> _T:
    """What is read, unless the file is damaged. An error of the system (it has a number) says nothing about that."""
    try:
        return read()
    except (pa.ArrowException, ValueError, KeyError, TypeError):
        return otherwise
    except OSError as error:
        if error.errno is not None:
            raise
        return otherwise
