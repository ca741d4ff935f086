"""Verdict: what a write is judged by, once it is known what comes in and what is there.

Belongs here: the rules that every backend shares and that need no database: which partitions would shrink too much,
what a commit record says. What they are judged from is counted by `survey`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from etl_project.storage.contract import UNKNOWN, Commit, Deviation, Partition, Request, Scope, Table
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.judging.messages import DataFault, refused
from etl_project.storage.judging.placement import Placement, placing
from etl_project.storage.judging.row_tally import Difference, Rows, Tally

COMPARED_ROWS = 250_000
"""Partitions with more rows are counted but not compared row by row: that costs as much as the write itself."""


STEADY = 3
"""A partition that was not reproducible is taken to be so again after as many equal rebuilds in a row: a transform
that tosses a coin gives the same rows in every other one."""


def placed(relation: str, columns: Sequence[Typed], table: Table, scope: Scope) -> Rows:
    """Rows of a relation together with the rule that places each in a partition of the scope."""
    if scope.partitions[0].key is None:
        return Rows(relation, columns, "0", Placement(scope, "", "integer"))
    value, placement = placing(table, scope, ((c.name, c.value, c.type) for c in columns))
    return Rows(relation, columns, value, placement)


def refuse_shrinking(
    table: Table, scope: Scope, request: Request, before: Mapping[int, int], new: Mapping[int, Tally]
) -> None:
    """Refuse a write that takes more of a partition away than the table allows.

    Raises DataFault (retrying does not help) unless the request says that it is meant.
    """
    limit = table.max_removed_ratio
    if limit is None or request.allow_shrink:
        return
    problems = [
        f"partition {scope.partitions[n].key!r} would shrink from {before[n]} to {tally.rows} rows"
        for n, tally in new.items()
        if before.get(n) and before[n] - tally.rows > limit * before[n]
    ]
    if problems:
        advice = f"At most {limit:.0%} may go; if this is right, run it again with the tag etl/allow_shrink=true."
        raise DataFault(refused(table, scope, problems, advice))


def plain_difference(before: int, after: int, changed: bool) -> Difference | None:
    """The difference where it can be told without comparing rows; None where it cannot."""
    if not changed:
        return Difference(0, 0, after)
    return Difference(after, before, 0) if not before or not after else None


class Change(NamedTuple):
    """What was found out about one partition: its last record, its rows before, what comes in, how they differ."""

    previous: Commit | None
    rows_before: int
    new: Tally
    difference: Difference | None

    @property
    def changed(self) -> bool:
        """Whether other rows are there now. Unchanged rows always have a difference, and it is none."""
        if self.previous is None or self.previous.fingerprint != self.new.fingerprint:
            return True
        return self.difference is None or self.difference.added > 0 or self.difference.removed > 0


def is_known(record: Commit) -> bool:
    """Whether all that the rows were made from is on record: inputs, config and code."""
    return record.input_hash != UNKNOWN and record.code_version is not None


def made_alike(one: Commit, other: Commit) -> bool:
    """Whether both were built from the same inputs, config and code, and can be compared at all."""
    first, second = ((c.input_hash, c.code_version, _algorithm(c)) for c in (one, other))
    return is_known(one) and first == second


def is_not_reproducible(former: Commit | None, record: Commit) -> bool:
    """Whether the same inputs, config and code gave other rows than that earlier build."""
    return former is not None and made_alike(former, record) and record.fingerprint != former.fingerprint


def kept_deviation(former: Commit | None, record: Commit) -> Deviation | None:
    """The deviation of a former build whose rows this one repeats; None once they came STEADY times in a row."""
    if former is None or former.deviation is None or former.fingerprint != record.fingerprint:
        return None
    repeats = former.deviation.repeats + 1
    return replace(former.deviation, repeats=repeats) if repeats < STEADY else None


def _algorithm(commit: Commit) -> str:
    return commit.fingerprint.partition(":")[0]


def record(
    table: Table, partition: Partition, request: Request, finding: Change, at: datetime, schema_changes: Sequence[str]
) -> Commit:
    """The record of one partition's commit, one after the previous."""
    previous, difference = finding.previous, finding.difference
    return Commit(
        asset=table.asset,
        partition=partition.key,
        sequence=previous.sequence + 1 if previous else 1,
        run_id=request.run_id,
        code_version=request.code_version,
        input_hash=request.input_hashes.get(partition.key, UNKNOWN),
        fingerprint=finding.new.fingerprint,
        rows_before=finding.rows_before,
        rows=finding.new.rows,
        rows_added=difference.added if difference else None,
        rows_removed=difference.removed if difference else None,
        rows_kept=difference.kept if difference else None,
        changed=finding.changed,
        committed_at=at,
        schema_changes=tuple(schema_changes),
    )
