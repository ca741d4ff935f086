"""Refusals: the one form in which a store says no.

Belongs here: the wording that every refused write and every wait in vain shares: what was attempted, everything that
was found, whether retrying helps, what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from etl_project.storage.contract import Scope, Table, WriteRefused

_SHOWN = 20


def more_memory(said: str) -> str:
    """Which setting helps where DuckDB ran out of memory; nothing for any other error."""
    if "Out of Memory Error" not in said:
        return ""
    return " Give it more memory (memory_limit_mb; ETL_MEMORY_LIMIT_MB in the project's environment)."


class DataFault(WriteRefused):
    """The rows of some partition are at fault; those of another one need not be."""


class ChecksFailed(DataFault):
    """The rows of some partition did not pass its checks, and reach no reader."""

    def __init__(self, message: str, reason: str) -> None:
        """`reason`: what the checks said, without what to do."""
        super().__init__(message)
        self.reason = reason


def refused(table: Table, scope: Scope, problems: Sequence[str], advice: str) -> str:
    """A message that lists all problems of one write and says what to do."""
    return "\n".join(
        [
            f"{what(table, scope)}: the write was refused and nothing was changed.",
            *(f"  - {problem}" for problem in problems[:_SHOWN]),
            *([f"  - and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []),
            f"Retrying does not help. {advice}",
        ]
    )


def partly(table: Table, scope: Scope, good: int, failures: Mapping[str | None, str]) -> str:
    """A message for a range of which some partitions are at fault."""
    return "\n".join(
        [
            f"{what(table, scope)}: {good} partitions are committed, {len(failures)} are at fault and keep their old "
            "rows. Retrying does not help.",
            *list(failures.values())[:_SHOWN],
            *([f"and {len(failures) - _SHOWN} more"] if len(failures) > _SHOWN else []),
        ]
    )


def missing_partitions(table: Table, good: int, missing: Mapping[str | None, str]) -> str:
    """A message for partitions that there is nothing to build from."""
    lines = [f"  - {key}: {reason}" for key, reason in missing.items()]
    return "\n".join(
        [
            f"Asset {table.asset!r}: {good} partitions are committed, {len(missing)} are missing and were not written. "
            "Missing is not empty. Retrying does not help; they are built when their input arrives.",
            *lines[:_SHOWN],
            *([f"  - and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []),
        ]
    )


def what(table: Table, scope: Scope) -> str:
    """The asset and the partitions of a write, in words."""
    keys = [partition.key for partition in scope.partitions]
    if keys == [None]:
        return f"Asset {table.asset!r}"
    if not keys:
        return f"Asset {table.asset!r}, no partition"
    if len(keys) == 1:
        return f"Asset {table.asset!r}, partition {keys[0]!r}"
    return f"Asset {table.asset!r}, {len(keys)} partitions from {keys[0]!r} to {keys[-1]!r}"


def correct_the_data(error: str) -> str:
    """What to do about rows that break a constraint; about a key, the one rule that no single row can keep, more."""
    if "duplicate key" not in error.lower():
        return "Correct the data."
    return (
        "Deliver each key once. A declared source can make rejects of such rows (on_duplicate_key in its defs.yaml), "
        "keep the first of rows that a sender repeats (deduplicate_on), or tell the two times of a repeated hour apart "
        "(repeated_hour)."
    )
