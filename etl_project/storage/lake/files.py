"""Files: what the lake asks of the place where its files lie, whatever kind of place that is.

Belongs here: the protocols that `layout` (a folder) and `bucket` (an object store) keep. Everything that is judged and
recorded is judged and recorded above them, once for both: they find files, hand out local ones to read, and make a file
the partition's file in one step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from etl_project.storage.contract import Candidate, Commit, StoreBusy, Table, Version

FILE = "data.parquet"


class Overtaken(StoreBusy):
    """Somebody else committed the partition after it was looked at. Nothing was changed; looking again helps."""


class Held(NamedTuple):
    """A local file with the content of a partition's file, and where that one lies, for messages."""

    path: Path
    shown: str


class Seat(Protocol):
    """The place of one partition, for as long as one writer is at it."""

    @property
    def file(self) -> Path:
        """What is there, as a local file that may be missing. Whatever is written on the way lies beside it."""
        ...

    @property
    def shown(self) -> str:
        """Where the partition's file lies, for messages."""
        ...

    def look(self) -> None:
        """Make `file` what is there now: what is put in its place later takes the place of this one, or of none."""
        ...

    def replacing(self, record: Commit) -> AbstractContextManager[Path]:
        """Give a temporary path to write to; it becomes the partition's file in one step when the block ends well.

        `record` is what the file will say: an error that came with the step is none where it can be read there.
        Raises Overtaken where the file is not the one that was looked at any more.
        """
        ...


class Versions(Protocol):
    """Replaced files that are kept."""

    def keep(self, asset: str, commit: Commit, file: Path) -> None:
        """Keep the file, which holds what `commit` left there; it is safe when this returns."""
        ...

    def forget(self, table: Table, commit: Commit) -> None:
        """Remove what is more than is kept now that `commit` is there, and what no commit has replaced."""
        ...

    def of(self, asset: str, key: str | None, head: Commit | None) -> list[Version]:
        """The kept versions of a partition, oldest first; without a file in its place, all of them."""
        ...

    def file(self, asset: str, key: str | None, sequence: int) -> Path | None:
        """A kept version as a local file; None where it is not kept."""
        ...

    def newest_history(self, asset: str, key: str | None) -> list[Commit]:
        """The records of the newest version: where the partition's own file is gone, its numbers go on from there."""
        ...


class Candidates(Protocol):
    """Files that did not pass their checks, and are kept beside their partitions."""

    def keep(self, record: Commit, file: Path, reason: str) -> None:
        """Make the file the candidate of its partition in one step, in place of an earlier one."""
        ...

    def of(self, asset: str) -> list[Candidate]:
        """The candidates of an asset, by partition."""
        ...

    def file(self, asset: str, key: str | None) -> Path | None:
        """The candidate of a partition as a local file; None where there is none."""
        ...

    def drop(self, asset: str, key: str | None, committed: Commit | None = None) -> None:
        """Remove the candidate of a partition, where there is one; but not one that came after this commit."""
        ...


class Files(Protocol):
    """Where the files of a lake lie: one a partition, with its commit record inside."""

    copies_at_once: int
    """How many files are examined together."""

    @property
    def beside(self) -> Path:
        """A local folder, for scratch folders."""
        ...

    @property
    def versions(self) -> Versions:
        """The replaced files that are kept."""
        ...

    @property
    def candidates(self) -> Candidates:
        """The files that did not pass their checks."""
        ...

    def prepare(self) -> None:
        """Have what a write needs; nothing of a partition is touched."""
        ...

    def shown(self, table: Table, key: str | None) -> str:
        """Where the file of a partition lies, for messages."""
        ...

    def newest(self, table: Table) -> Path | None:
        """A local file with the footer (and perhaps no more) of the file of the asset that was written last.

        Its columns are those that all files agree with. Damaged files are passed over.
        """
        ...

    def local(self, table: Table, keys: Collection[str | None]) -> dict[str | None, Path]:
        """For each partition a local file with its content, which is missing where the partition has none."""
        ...

    def records(
        self, assets: Iterable[str] | None = None, partitions: Collection[str | None] | None = None
    ) -> Iterator[Commit]:
        """The newest record of every file, or of those given; a damaged file has none, so its partition is due."""
        ...

    def history(self, asset: str, partition: str | None) -> list[Commit]:
        """The records that the partition's file carries, oldest first, whatever its partition column is called."""
        ...

    def keys(self, asset: str) -> list[str | None]:
        """Every partition of the asset that has a file."""
        ...

    def first_keys(self) -> Iterator[str]:
        """The first partition of every asset, in the order of the keys: for days, the earliest one."""
        ...

    def copies(self, asset: str, keys: Collection[str | None]) -> AbstractContextManager[Mapping[str | None, Held]]:
        """The files of these partitions as they are now, each byte of them, for as long as the block lasts."""
        ...

    def footers(self, asset: str) -> Iterator[tuple[str | None, Path]]:
        """For every partition that has a file a local one with its footer, and perhaps no more; one by one."""
        ...

    def turn(self, table: Table, key: str | None, wait_seconds: float, whom: str) -> AbstractContextManager[Seat]:
        """The place of a partition, for writing. Raises StoreBusy after `wait_seconds` (retrying helps)."""
        ...
