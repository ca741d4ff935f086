"""The lake: where the Parquet file of a partition lies, what its footer says, and whose turn it is to write it.

Belongs here: everything that knows about paths, so that an object store needs only another one of these. Asset and key
are percent-encoded: no name leaves the root or meets another one.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from base64 import b64decode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq

from etl_project import atomic
from etl_project.storage.contract import Commit, StoreBusy, StoreUnavailable, Table
from etl_project.storage.judging.commits import from_json
from etl_project.storage.lake.draft import EARLIER, FRAME, RECORD
from etl_project.storage.lake.footers import Footers

FILE = "data.parquet"
_PAUSE_SECONDS = 0.02
_T = TypeVar("_T")


class Lake:
    """A folder of Parquet files, `<asset>/<partition column>=<key>/data.parquet`."""

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        """`cache`: a folder in which the records of unchanged files may be remembered."""
        self.root = root
        self._cache = cache

    def path(self, table: Table, key: str | None) -> Path:
        """The file of a partition, whether it exists or not."""
        folder = self.root / encoded(table.asset)
        if key is not None:
            folder = folder / f"{encoded(str(table.partition_column))}={encoded(key)}"
        return folder / FILE

    def newest(self, table: Table) -> Path | None:
        """The file of the asset that was written last; its columns are those that all its files agree with.

        Damaged files are passed over.
        """
        files = []
        for file in self._files(encoded(table.asset)):
            with suppress(FileNotFoundError):
                files.append((os.stat(file).st_mtime_ns, file))
        newest_first = (file for _, file in sorted(files, reverse=True))
        return next((Path(file) for file in newest_first if _has_footer(file)), None)

    def records(
        self, assets: Iterable[str] | None = None, partitions: Collection[str | None] | None = None
    ) -> Iterator[Commit]:
        """The newest record of every file, or of those given; a damaged file has none, so its partition is due."""
        names = self._asset_folders() if assets is None else [encoded(asset) for asset in assets]
        wanted = None if partitions is None else {None if key is None else encoded(key) for key in partitions}
        for name in names:
            files = list(self._files(name, wanted))
            if self._cache is None or wanted is not None:
                yield from (record for record in map(intact_record, files) if record is not None)
            else:
                yield from Footers(self._cache / f"{name}.json").records(files, intact_record)

    def files(self, asset: str) -> Iterator[tuple[str | None, Path]]:
        """Every partition of the asset that has a file, with the file."""
        for file in self._files(encoded(asset)):
            folder = Path(file).parent.name
            if Path(file).is_file():
                yield unquote(folder.partition("=")[2]) if "=" in folder else None, Path(file)

    def file_of(self, asset: str, partition: str | None) -> Path | None:
        """The file of a partition, whatever its partition column is called."""
        found = list(self._files(encoded(asset), {None if partition is None else encoded(partition)}))
        return Path(found[0]) if found else None

    def _asset_folders(self) -> list[str]:
        if not self.root.is_dir():
            return []
        with os.scandir(self.root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))

    def _files(self, asset_folder: str, partitions: Collection[str | None] | None = None) -> Iterator[str]:
        """Where files of an asset are or, a partition's folder being empty, may be; of these partitions only."""
        folder = self.root / asset_folder
        if not folder.is_dir():
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                key = entry.name.partition("=")[2] if "=" in entry.name else None
                if partitions is not None and key not in partitions:
                    continue
                if entry.name == FILE:
                    yield entry.path
                elif key is not None:
                    yield f"{entry.path}/{FILE}"


def encoded(name: str) -> str:
    """The name as one path segment that means nothing to a file system."""
    safe = quote(name, safe=" ")
    return safe.replace(".", "%2E") if not safe.strip(".") or safe.startswith(".") else safe


def history(path: Path) -> list[Commit]:
    """The commit records in a file's footer, oldest first; none when there is no such file.

    Raises what reading a damaged footer raises: Arrow's errors, OSError, ValueError, KeyError, TypeError.
    """
    footer = _footer(path)
    if RECORD not in footer:
        return []
    earlier = [from_json(text) for text in json.loads(footer.get(EARLIER, b"[]"))]
    return [*earlier, from_json(footer[RECORD].decode())]


def frame_of(path: Path | str) -> bytes | None:
    """The types with which the rows of a file were written, where somebody said so."""
    found = _footer(path).get(FRAME)
    return None if found is None else b64decode(found)


def intact_frame(path: Path) -> bytes | None:
    """The same, None for a damaged file."""
    return _unless_damaged(lambda: frame_of(path), None)


def last_record(path: Path | str) -> Commit | None:
    """The newest commit record in a file's footer. Raises what `history` raises."""
    footer = _footer(path)
    return from_json(footer[RECORD].decode()) if RECORD in footer else None


def intact_history(path: Path) -> list[Commit]:
    """`history`, and none of a damaged file: what it held is lost, and its partition can only be written again."""
    return _unless_damaged(lambda: history(path), [])


def intact_record(path: Path | str) -> Commit | None:
    """`last_record`, and none of a damaged file."""
    return _unless_damaged(lambda: last_record(path), None)


def is_damaged(path: Path) -> bool:
    """Whether some row of the file cannot be read, although the system gives all of its bytes."""

    def read() -> bool:
        with pq.ParquetFile(path) as file:
            for _ in file.iter_batches():
                pass
        return False

    return _unless_damaged(read, True)


def _has_footer(path: str) -> bool:
    """Whether there is a file whose footer can be read."""
    with suppress(FileNotFoundError):
        return _unless_damaged(lambda: pq.read_schema(path) is not None, False)
    return False


def _footer(path: Path | str) -> Mapping[bytes, bytes]:
    try:
        return pq.read_metadata(path).metadata or {}
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


@contextmanager
def turn(folder: Path, wait_seconds: float, whom: str) -> Iterator[None]:
    """Exclusive writing in a partition's folder, between threads and processes of this machine.

    The lock is the operating system's: it goes with the process that held it. Temporary files that a killed writer
    left are removed. Raises StoreBusy after `wait_seconds` (retrying helps).
    """
    atomic.make_folder(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, wait_seconds, whom)
        _sweep(folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, wait_seconds: float, whom: str) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError as error:
            raise StoreUnavailable(
                f"{whom}: its folder cannot be locked ({error.strerror}), and two writers could both win. "
                "Nothing was changed; retrying helps once the lake is on a file system that has locks."
            ) from error
        if time.monotonic() > deadline:
            raise StoreBusy(
                f"{whom}: {_holder(descriptor)} has been writing it for {wait_seconds:g} s. Nothing was changed; "
                "retrying helps."
            )
        time.sleep(_PAUSE_SECONDS)


def _holder(descriptor: int) -> str:
    """Who holds the lock, where the system tells (Linux)."""
    inode = str(os.fstat(descriptor).st_ino)
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if "FLOCK" in fields and fields[-3].rpartition(":")[2] == inode:
                return f"process {fields[-4]}"
    return "another process"


def _sweep(folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(atomic.TEMPORARY_PREFIX) and entry.name.endswith(atomic.TEMPORARY_SUFFIX):
                Path(entry.path).unlink(missing_ok=True)
