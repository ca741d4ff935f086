"""Versions: which kept rows a person means by a commit or by a moment.

Belongs here: finding, among the commits of a partition, the rows that were there then; what to say when they are gone.
Keeping and reading them is the stores'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from etl_project.storage.contract import Commit, ReadRefused, Table, Version

SETTING = "keep_versions"


class NotYetThere(ReadRefused):
    """Nothing was committed by then. Retrying does not help."""


class There(NamedTuple):
    """The rows that a commit left: of a kept `version`, or those that are `current` (None)."""

    sequence: int
    version: Version | None

    @property
    def current(self) -> bool:
        """Whether nothing has replaced them since."""
        return self.version is None


def at_commit(
    table: Table, key: str | None, sequence: int, history: Sequence[Commit], kept: Sequence[Version]
) -> There:
    """The rows that were there after the commit with this number. Commits that changed nothing left the same rows.

    Raises ReadRefused when there is no such commit, or its rows are not kept (retrying does not help).
    """
    if any(version.sequence == sequence for version in kept):
        return There(sequence, next(version for version in kept if version.sequence == sequence))
    known = {commit.sequence: commit for commit in history}
    if sequence not in known:
        there = ", ".join(str(number) for number in sorted({*known, *(v.sequence for v in kept)})) or "none"
        raise ReadRefused(
            f"{_whose(table, key)}: there is no commit {sequence}; there are {there}. Retrying does not help."
        )
    later = {commit.sequence: commit for commit in history if commit.sequence > sequence}
    replaced = next((number for number in sorted(later) if later[number].changed), None)
    if replaced is None:
        return There(sequence, None)
    for version in kept:
        if sequence < version.sequence < replaced:
            return There(sequence, version)
    raise not_kept(table, key, sequence)


def at_moment(
    table: Table, key: str | None, moment: datetime, history: Sequence[Commit], kept: Sequence[Version]
) -> There:
    """The rows that were there at that moment (UTC). Raises NotYetThere, and ReadRefused for rows that are not kept."""
    every = {commit.sequence: commit for commit in [*(v.commit for v in kept if v.commit is not None), *history]}
    before = [commit.sequence for commit in every.values() if commit.committed_at <= moment]
    if not before:
        raise NotYetThere(
            f"{_whose(table, key)}: nothing that is still on record was committed by {moment.isoformat()}. "
            "Retrying does not help."
        )
    return at_commit(table, key, max(before), sorted(every.values(), key=lambda one: one.sequence), kept)


def outlived(table: Table, earlier: int, at: datetime, replaced_at: Callable[[int], datetime | None]) -> int:
    """How many of so many versions, the oldest first, go at a commit made `at`: too many of them, or too old.

    `replaced_at` says of one when it was replaced, at the latest; one of which nobody knows it stays.
    """
    gone = max(0, earlier - table.keep_versions)
    if table.keep_versions_days is not None:
        oldest = at - timedelta(days=table.keep_versions_days)
        while gone < earlier and (replaced_at(gone) or at) < oldest:
            gone += 1
    return gone


def replaced_by(records: Sequence[Commit], sequence: int) -> datetime | None:
    """When the rows of a commit were replaced, by the records of what took their place; None where none says it."""
    later = [one for one in records if one.sequence > sequence]
    return min((one.committed_at for one in later if one.changed), default=None) or (
        later[-1].committed_at if later else None
    )


def not_kept(table: Table, key: str | None, sequence: int) -> ReadRefused:
    """What to say of rows that were replaced and are gone."""
    keeps = f"the table keeps {table.keep_versions}" if table.keep_versions else f"{SETTING} is 0"
    if table.keep_versions_days is not None:
        keeps = f"the table keeps what was replaced within {table.keep_versions_days} days"
    return ReadRefused(
        f"{_whose(table, key)}: the rows of commit {sequence} were replaced and are not kept ({keeps}). Retrying does "
        f"not help. To keep what will be replaced, set {SETTING}: 3 for the table, or ETL_KEEP_VERSIONS=3 for all."
    )


def _whose(table: Table, key: str | None) -> str:
    return f"Asset {table.asset!r}" if key is None else f"Asset {table.asset!r}, partition {key!r}"
