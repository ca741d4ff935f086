"""Findings: what can be wrong with a partition, and what to do about it.

Belongs here: the words shared by everything that looks. Does not belong here: looking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from etl_project.failures import Permanent
from etl_project.storage.contract import Commit
from etl_project.storage.judging import fingerprint
from etl_project.storage.judging.row_tally import Tally

Kind = Literal["edited", "missing", "corrupt", "uncommitted", "unknown to Dagster", "not committed", "corrupt archive"]

_REBUILD = "build these days again (`dagster asset materialize --select ASSET --partition-range FIRST...LAST`)"

ADVICE: Mapping[Kind, str] = {
    "edited": f"{_REBUILD}: the rows of the commit's inputs replace what is there.",
    "missing": f"{_REBUILD}; where no commit is left either, `etl drain` does it by itself.",
    "corrupt": f"a damaged Parquet file: remove it, then {_REBUILD}; a damaged database: restore it from a copy, or "
    "move it away and run `etl drain`: everything is built again from the archive.",
    "uncommitted": "`etl drain` builds the days again that have an input; delete the rows of days that have none.",
    "unknown to Dagster": "`etl verify --repair` writes the events; the data is right.",
    "not committed": "`etl drain` builds the days again that have an input.",
    "corrupt archive": "send the file again under its old name, or put its content back from a copy.",
}


class Unverifiable(Permanent):
    """What is asked for does not exist. Retrying does not help."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `where` is the file or table; `found` says what is there and what was expected."""

    kind: Kind
    asset: str
    partition: str | None
    where: str
    found: str
    repaired: bool = False


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


@dataclass
class Looked:
    """What a look at one asset's store brought: its last commits, the rows that were hashed, and what is wrong."""

    commits: dict[str | None, Commit] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    rows: int = 0


def is_comparable(commit: Commit) -> bool:
    """Whether the record's fingerprint is of the version that is taken now."""
    return commit.fingerprint.partition(":")[0] == fingerprint.VERSION


def differs(commit: Commit, there: Tally) -> bool:
    """Whether what is there is not what was committed; of a record of an earlier version, the rows are all to go by."""
    if is_comparable(commit):
        return there.fingerprint != commit.fingerprint
    return there.rows != commit.rows


def said(commit: Commit) -> str:
    """What a commit record claims, for a message."""
    return (
        f"{commit.rows} rows, {commit.fingerprint} (run {commit.run_id[:8]}, {commit.committed_at:%Y-%m-%d %H:%M} UTC)"
    )
