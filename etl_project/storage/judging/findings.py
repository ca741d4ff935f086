"""Findings: what can be wrong with a partition, as whoever examines a store says it.

Belongs here: the words shared by all that examine, and when rows are not those of a commit. Does not belong here:
looking (each store's own), and what to do about it (`proofs.verify`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from etl_project.storage.contract import Commit
from etl_project.storage.judging import fingerprint
from etl_project.storage.judging.row_tally import Tally

Kind = Literal[
    "edited",
    "missing",
    "corrupt",
    "uncommitted",
    "unknown to Dagster",
    "not committed",
    "corrupt archive",
    "lost archive",
]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `where` is the file or table; `found` says what is there and what was expected."""

    kind: Kind
    asset: str
    partition: str | None
    where: str
    found: str
    repaired: bool = False


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
