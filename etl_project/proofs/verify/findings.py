"""What is asked for when a store is examined, and what to do about what is found.

Belongs here: which partitions count, and the advice for each kind of finding. Does not belong here: looking (the stores
do), and the findings themselves (`storage.judging.findings`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from etl_project.proofs.verify.targets import Stored, Unverifiable
from etl_project.storage import Kind, Scope

_REBUILD = "build these days again (`dagster asset materialize --select ASSET --partition-range FIRST...LAST`)"

ADVICE: Mapping[Kind, str] = {
    "edited": f"{_REBUILD}: the rows of the commit's inputs replace what is there.",
    "missing": f"{_REBUILD}; where no commit is left either, `etl drain` does it by itself.",
    "corrupt": f"a damaged Parquet file: remove it, then {_REBUILD}; a damaged database: restore it from a copy, or "
    "move it away and run `etl drain`: everything is built again from the archive.",
    "uncommitted": "`etl drain` builds the days again that have an input; delete the rows of days that have none.",
    "unknown to Dagster": "`etl verify --repair` writes the events; the data is right.",
    "not committed": "`etl drain` builds the days again that have an input.",
    "lost archive": "put the archived files back from a copy, or send them again; the rows stay as they are.",
    "corrupt archive": "send the file again under its old name, or put its content back from a copy.",
}


@dataclass(frozen=True)
class DaySpan:
    """The days to look at, both included; None is open. Partitions that are no days are in the open window only."""

    first: date | None = None
    last: date | None = None

    def __post_init__(self) -> None:
        if self.first is not None and self.last is not None and self.last < self.first:
            raise Unverifiable(f"--from {self.first} is after --to {self.last}; write the earlier day first.")

    @property
    def everything(self) -> bool:
        """Whether no day is left out."""
        return self.first is None and self.last is None

    def holds(self, key: str | None) -> bool:
        """Whether the partition is to be looked at. A key that starts with a day counts as of that day."""
        if self.everything:
            return True
        try:
            day = date.fromisoformat((key or "")[:10])
        except ValueError:
            return False
        return (self.first is None or self.first <= day) and (self.last is None or day <= self.last)


class Asked(NamedTuple):
    """The partitions of an asset that are to be examined; see `storage.contract.Partitions`."""

    target: Stored
    window: DaySpan

    @property
    def partitioned(self) -> bool:
        """Whether the asset has partitions at all."""
        return self.target.partitions is not None

    def scope(self, keys: Iterable[str | None]) -> Scope:
        """The partitions with these keys."""
        return self.target.scope(keys)

    def holds(self, key: str | None) -> bool:
        """Whether the partition is asked for."""
        return self.window.holds(key)

    def owns(self, key: str | None) -> bool:
        """Whether the asset has such a partition as it is defined now."""
        return self.target.owns(key)
