"""Judgement: what every write is judged by, whichever backend makes it.

Belongs here: which partitions change and by how much, which would shrink too much, what is not reproducible, and what a
commit record says. What it is judged from is counted by `row_tally`; finding the two sides is the backend's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import duckdb

from etl_project.storage.contract import UNKNOWN, Commit, Deviation, Partition, Request, Scope, Table
from etl_project.storage.judging import deviation as deviations
from etl_project.storage.judging import limits, pins, row_tally
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.judging.messages import DataFault, refused
from etl_project.storage.judging.placement import Placement, placing
from etl_project.storage.judging.row_tally import EMPTY, Difference, Rows, Tally

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
        advice = (
            f"The rows that are there stay. At most {limit:.0%} may go; if this is right, run it again with the tag "
            "etl/allow_shrink=true (`etl drain --allow-shrink`). If not, mend what was read: a file that is sent again "
            "under its name, in full, is built in the place of the one that has come."
        )
        raise DataFault(refused(table, scope, problems, advice))


@dataclass(frozen=True)
class Sides:
    """Both sides of one write. Partitions go by their position in the scope of `incoming`, and of `there`.

    `incoming`: None for rows that can no longer be scanned, unless `again` finds them, which costs a second writing and
    is asked for rows that are not reproducible; `there`: None where nothing can be read. `before` are
    the rows that are there, `tallies` counts and hashes those of some partitions. `former` gives, for records that
    could be written, the last build of each from the same inputs and code; `key` the columns by which rows are known.
    `room`: how many partitions that are not reproducible may still be looked into.
    """

    connection: duckdb.DuckDBPyConnection
    table: Table
    scope: Scope
    request: Request
    new: Mapping[int, Tally]
    before: Mapping[int, int]
    previous: Mapping[int, Commit]
    incoming: Rows | None
    there: Rows | None
    tallies: Callable[[Sequence[int]], Mapping[int | None, Tally]]
    former: Callable[[Mapping[int, Commit]], Mapping[int, Commit]]
    key: Callable[[], Sequence[str]]
    schema_changes: Sequence[str] = ()
    room: int = deviations.LOOKED_INTO
    again: Callable[[], Rows] | None = None


class Judged(NamedTuple):
    """What came of it: the record of every partition, and which partitions have to be written."""

    records: dict[int, Commit]
    changed: tuple[int, ...]


def judge(sides: Sides, at: datetime) -> Judged:
    """Judge every partition that comes in. `at` is the instant that the records carry.

    Raises DataFault (retrying does not help) when a partition would shrink by more than its table allows.
    """
    unchanged = _unchanged(sides)
    pins.refuse_others(sides.table, sides.scope, sides.request, sides.new, sides.previous)
    changed = tuple(n for n in sides.new if n not in unchanged)
    refuse_shrinking(sides.table, sides.scope, sides.request, sides.before, {n: sides.new[n] for n in changed})
    differences = _differences(sides, changed)
    limits.refuse_changing(sides.table, sides.scope, sides.request, sides.before, differences, changed)
    old, new = sides.there, sides.incoming
    limits.refuse_sums(sides.connection, sides.table, sides.scope, sides.request, old, new, changed)
    records = {
        n: record(
            sides.table,
            sides.scope.partitions[n],
            sides.request,
            Change(sides.previous.get(n), sides.before.get(n, 0), sides.new[n], differences[n]),
            at,
            sides.schema_changes,
        )
        for n in sides.new
    }
    found = _deviations(sides, records)
    return Judged({n: replace(one, deviation=found.get(n)) for n, one in records.items()}, changed)


def _unchanged(sides: Sides) -> set[int]:
    """Partitions whose record and whose rows both say so: rows edited by hand are written again."""
    alike = [
        n
        for n, last in sides.previous.items()
        if last.fingerprint == sides.new[n].fingerprint and sides.before.get(n, 0) == sides.new[n].rows
    ]
    if not alike:
        return set()
    there = sides.tallies(alike)
    return {n for n in alike if there.get(n, EMPTY).fingerprint == sides.new[n].fingerprint}


def _differences(sides: Sides, changed: Sequence[int]) -> dict[int, Difference | None]:
    """By content where that is cheap; where one side is empty it is plain; None where it was not compared."""
    result = {n: plain_difference(sides.before.get(n, 0), sides.new[n].rows, n in changed) for n in sides.new}
    compared = tuple(
        n
        for n, plain in result.items()
        if plain is None
        and (
            sides.table.max_changed_ratio is not None or max(sides.before.get(n, 0), sides.new[n].rows) <= COMPARED_ROWS
        )
    )
    if compared and sides.there is not None and sides.incoming is not None:
        old, new = sides.there._replace(only=compared), sides.incoming._replace(only=compared)
        result |= row_tally.difference(sides.connection, old, new)
    return result


def _deviations(sides: Sides, records: Mapping[int, Commit]) -> dict[int, Deviation | None]:
    """What is not reproducible, the first of them with what differs from the build before."""
    former = sides.former(records)
    found = {n: kept_deviation(former.get(n), one) for n, one in records.items()}
    if sides.there is None:
        return found
    suspects = [n for n, one in records.items() if is_not_reproducible(former.get(n), one)]
    found |= {n: deviations.unexplained(former[n], deviations.REPLACED) for n in suspects}
    last = [n for n in suspects if former[n] is sides.previous.get(n)]
    found |= {n: deviations.unexplained(former[n], deviations.TOO_MANY) for n in last[sides.room :]}
    for n in last[: sides.room]:
        incoming = sides.incoming or (sides.again and sides.again())
        if incoming is None:
            raise AssertionError("a write gives its rows, or a way to find them again")
        old, new = sides.there._replace(only=(n,)), incoming._replace(only=(n,))
        found[n] = deviations.explain(sides.connection, former[n], old, new, sides.key())
    return found


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
        restored=request.restores.get(partition.key),
    )
