"""Versions of a day, as a person looks at them: what was committed when, which of it can still be read, and its rows.

Belongs here: commits and kept versions of one partition of a stored asset, side by side. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from etl_project.failures import Permanent
from etl_project.proofs.verify.targets import Stored
from etl_project.storage import AsOf, Commit, Slice

Rows = Literal["current", "kept", "gone"]
"""Where the rows of a commit are."""


class NoSuchPartition(Permanent):
    """The asset has no such day, or none was named. Retrying does not help."""


class Listed(NamedTuple):
    """One commit of a partition. Rows that were there before the first one are a version without a record."""

    sequence: int
    commit: Commit | None
    rows: int
    where: Rows


def partition_of(target: Stored, day: str | None) -> str | None:
    """The partition that is meant; None for all of an asset without partitions. Raises NoSuchPartition."""
    if target.partitions is None and day is not None:
        raise NoSuchPartition(f"{target.asset} has no partitions; leave --day out.")
    if target.partitions is not None and day is None:
        raise NoSuchPartition(f"{target.asset} has partitions: name one, like --day 2025-03-20.")
    if not target.owns(day):
        raise NoSuchPartition(f"{target.asset} has no partition {day!r}; days are written like 2025-03-20.")
    return day


def listing(target: Stored, key: str | None) -> list[Listed]:
    """Every commit of the partition that is on record, newest first, and where its rows are.

    Raises StoreBusy (retrying helps).
    """
    kept = target.store.versions(target.table, key)
    records = {version.commit.sequence: version.commit for version in kept if version.commit is not None}
    records |= {commit.sequence: commit for commit in target.store.history(target.asset, key)}
    there = {version.sequence for version in kept}
    listed = [Listed(version.sequence, None, version.rows, "kept") for version in kept if version.commit is None]
    found: Rows = "current"
    for sequence in sorted(records, reverse=True):
        if sequence in there:
            found = "kept"
        listed.append(Listed(sequence, records[sequence], records[sequence].rows, found))
        if records[sequence].changed:  # What was there before is another set of rows.
            found = "gone"
    return sorted(listed, key=lambda one: one.sequence, reverse=True)


def rows_of_candidate(target: Stored, key: str | None) -> Slice:
    """The rows that did not pass their checks. Raises ReadRefused where there are none (retrying does not help)."""
    return target.store.read_candidate(target.table, key)


def rows_at(
    target: Stored, key: str | None, sequence: int | None = None, columns: Sequence[str] | None = None
) -> Slice:
    """The rows that a commit left, or those that are there now.

    Raises ReadRefused where they are not kept (retrying does not help), StoreBusy (it does).
    """
    scope = target.scope([] if key is None else [key])
    if sequence is None:
        return target.store.read(target.table, scope, columns)
    return AsOf(target.store, sequence).read(target.table, scope, columns)
