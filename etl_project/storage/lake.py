"""The lake: where the Parquet file of a partition lies, what its footer says, and whose turn it is to write it.

Belongs here: everything that knows about paths, so that an object store needs only another one of these. Asset and key
are percent-encoded: no name leaves the root or meets another one.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from etl_project import faults
from etl_project.storage import atomic
from etl_project.storage.base import Commit, StoreBusy, Table
from etl_project.storage.commits import from_json, to_json

FILE = "data.parquet"
KEPT_RECORDS = 20
"""Earlier commit records that a file carries along."""

_RECORD = b"etl_commit"
_EARLIER = b"etl_earlier_commits"
_PAUSE_SECONDS = 0.02


class Lake:
    """A folder of Parquet files, `<asset>/<partition column>=<key>/data.parquet`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, table: Table, key: str | None) -> Path:
        """The file of a partition, whether it exists or not."""
        folder = self.root / encoded(table.asset)
        if key is not None:
            folder = folder / f"{encoded(str(table.partition_column))}={encoded(key)}"
        return folder / FILE

    def newest(self, table: Table) -> Path | None:
        """The file of the asset that was written last; its columns are those that all its files agree with."""
        files = [(entry.stat().st_mtime_ns, entry.path) for entry in self._files(table.asset)]
        return Path(max(files)[1]) if files else None

    def paths_of(self, asset: str) -> Iterator[Path]:
        """All files of an asset."""
        return (Path(entry.path) for entry in self._files(asset))

    def records(
        self, assets: Iterable[str] | None = None, partitions: Collection[str | None] | None = None
    ) -> Iterator[Commit]:
        """The newest record of every file, or of those given."""
        names = [encoded(asset) for asset in assets] if assets is not None else self._asset_folders()
        wanted = None if partitions is None else set(partitions)
        for name in names:
            for entry in self._files_in(self.root / name):
                found = history(Path(entry.path))
                if found and (wanted is None or found[-1].partition in wanted):
                    yield found[-1]

    def _asset_folders(self) -> list[str]:
        if not self.root.is_dir():
            return []
        with os.scandir(self.root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))

    def _files(self, asset: str) -> Iterator[os.DirEntry[str]]:
        return self._files_in(self.root / encoded(asset))

    def _files_in(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        """Data files in an asset's folder or one level below."""
        if not folder.is_dir():
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    with os.scandir(entry.path) as inner:
                        yield from (file for file in inner if file.name == FILE)
                elif entry.name == FILE:
                    yield entry


def encoded(name: str) -> str:
    """The name as one path segment that means nothing to a file system."""
    safe = quote(name, safe=" ")
    return safe.replace(".", "%2E") if not safe.strip(".") or safe.startswith(".") else safe


def history(path: Path) -> list[Commit]:
    """The commit records in a file's footer, oldest first; none when there is no such file."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except FileNotFoundError:
        return []
    if _RECORD not in metadata:
        return []
    earlier = [from_json(text) for text in json.loads(metadata.get(_EARLIER, b"[]"))]
    return [*earlier, from_json(metadata[_RECORD].decode())]


def write(path: Path, batches: pa.RecordBatchReader, record: Commit, earlier: Sequence[Commit]) -> None:
    """Write one file with its commit record; memory holds one batch."""
    kept = [to_json(commit) for commit in earlier[-KEPT_RECORDS:]]
    with pq.ParquetWriter(path, batches.schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            faults.reach("parquet.half_written")
        writer.add_key_value_metadata({_RECORD: to_json(record).encode(), _EARLIER: json.dumps(kept).encode()})


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
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
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
