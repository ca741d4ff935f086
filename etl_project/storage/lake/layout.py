"""The lake in a folder: where the Parquet file of a partition lies, and whose turn it is to write it.

Belongs here: everything that knows about paths; `bucket` is the same for an object store. Asset and key are
percent-encoded: no name leaves the root or meets another one.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from etl_project import atomic
from etl_project.storage.contract import Commit, StoreBusy, StoreUnavailable, Table
from etl_project.storage.lake import footer, former
from etl_project.storage.lake.candidates import FolderCandidates
from etl_project.storage.lake.files import FILE, Held
from etl_project.storage.lake.footers import Footers
from etl_project.storage.lake.names import encoded
from etl_project.storage.lake.versions import FolderVersions

_PAUSE_SECONDS = 0.02


class Lake:
    """A folder of Parquet files, `<asset>/<partition column>=<key>/data.parquet`."""

    copies_at_once = 500

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        """`cache`: a folder in which the records of unchanged files may be remembered."""
        self.root = root
        self.versions = FolderVersions(root)
        self.candidates = FolderCandidates(root)
        self._cache = cache

    def __str__(self) -> str:
        return str(self.root)

    @property
    def beside(self) -> Path:
        """The root: what does not fit into memory goes where the files are."""
        return self.root

    def prepare(self) -> None:
        """Make the root."""
        atomic.make_folder(self.root)

    def shown(self, table: Table, key: str | None) -> str:
        """The path of a partition's file."""
        return str(self.path(table, key))

    def path(self, table: Table, key: str | None) -> Path:
        """The file of a partition, whether it exists or not."""
        folder = self.root / encoded(table.asset)
        if key is not None:
            folder = folder / f"{encoded(str(table.partition_column))}={encoded(key)}"
        return folder / FILE

    def newest(self, table: Table) -> Path | None:
        """The file of the asset that was written last; its columns are those that all its files agree with.

        Damaged files are passed over. Where files were restored without their times, their records say which one it is.
        """
        files = []
        for file in self._files(encoded(table.asset)):
            with suppress(FileNotFoundError):
                files.append((os.stat(file).st_mtime_ns, file))
        newest_first = sorted(files, reverse=True)
        for modified_ns, file in newest_first:
            if footer.schema_of(file) is not None:
                if former.is_restored(footer.intact_record(file), modified_ns / 1e9):
                    return former.last_committed(Path(file) for _, file in newest_first)
                return Path(file)
        return None

    def local(self, table: Table, keys: Collection[str | None]) -> dict[str | None, Path]:
        """The files themselves."""
        return {key: self.path(table, key) for key in keys}

    def records(
        self, assets: Iterable[str] | None = None, partitions: Collection[str | None] | None = None
    ) -> Iterator[Commit]:
        """The newest record of every file, or of those given; a damaged file has none, so its partition is due."""
        names = self._asset_folders() if assets is None else [encoded(asset) for asset in assets]
        wanted = None if partitions is None else {None if key is None else encoded(key) for key in partitions}
        for name in names:
            files = list(self._files(name, wanted))
            if self._cache is None or wanted is not None:
                yield from (record for record in map(footer.intact_record, files) if record is not None)
            else:
                yield from Footers(self._cache / f"{name}.json").records(
                    _versioned(files), partial(map, footer.intact_record)
                )

    def history(self, asset: str, partition: str | None) -> list[Commit]:
        """The records in the file of a partition, whatever its partition column is called."""
        found = list(self._files(encoded(asset), {None if partition is None else encoded(partition)}))
        return footer.history(found[0]) if found else []

    def keys(self, asset: str) -> list[str | None]:
        """Every partition of the asset that has a file."""
        return list(self._there(asset))

    def first_keys(self) -> Iterator[str]:
        """The first partition of every asset, in the order of the keys: for days, the earliest one."""
        for name in self._asset_folders():
            with os.scandir(self.root / name) as entries:
                keys = [unquote(entry.name.partition("=")[2]) for entry in entries if "=" in entry.name]
            yield from sorted(keys)[:1]

    @contextmanager
    def copies(self, asset: str, keys: Collection[str | None]) -> Iterator[Mapping[str | None, Held]]:
        """The files themselves: one that is replaced meanwhile is another one from then on."""
        wanted = set(keys)
        yield {key: Held(path, str(path)) for key, path in self._there(asset).items() if key in wanted}

    def footers(self, asset: str) -> Iterator[tuple[str | None, Path]]:
        """The files themselves."""
        yield from self._there(asset).items()

    @contextmanager
    def turn(self, table: Table, key: str | None, wait_seconds: float, whom: str) -> Iterator[_Place]:
        """A partition's file, while nobody else on this machine may write in its folder."""
        path = self.path(table, key)
        with turn(path.parent, wait_seconds, whom):
            yield _Place(path)

    def _there(self, asset: str) -> dict[str | None, Path]:
        """Every partition of the asset that has a file, with the file."""
        found = {}
        for file in self._files(encoded(asset)):
            path = Path(file)
            if path.is_file():
                folder = path.parent.name
                found[unquote(folder.partition("=")[2]) if "=" in folder else None] = path
        return found

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


class _Place:
    """A partition's file in its folder, which is locked."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def shown(self) -> str:
        """The path."""
        return str(self.file)

    def look(self) -> None:
        """Nothing to do: while the folder is locked, what is there stays there."""

    @contextmanager
    def replacing(self, record: Commit) -> Iterator[Path]:
        """One rename. An error after it is settled by what the file says."""
        try:
            with atomic.replacing(self.file, "parquet") as temporary:
                yield temporary
        except OSError:
            if footer.intact_record(self.file) != record:
                raise


def _versioned(files: Iterable[str]) -> Iterator[tuple[str, list[int]]]:
    """Each file that is there with what changes with every write of it: a write makes a new file."""
    for file in files:
        with suppress(FileNotFoundError):
            status = os.stat(file)
            yield file, [status.st_ino, status.st_mtime_ns, status.st_size]


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
