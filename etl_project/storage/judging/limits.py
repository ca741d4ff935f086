"""Limits: how much of a partition one write may change, where its table says so.

Belongs here: `max_changed_ratio` and `max_sum_change`, judged before anything is written. How many rows may go is
`judgement`'s `max_removed_ratio`, which needs no look at the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb

from etl_project.storage.contract import Request, Scope, Table
from etl_project.storage.judging.messages import DataFault, refused
from etl_project.storage.judging.row_tally import NUMBERS, Difference, Rows
from etl_project.storage.sql import Binds


def refuse_changing(
    table: Table,
    scope: Scope,
    request: Request,
    before: Mapping[int, int],
    differences: Mapping[int, Difference | None],
    changed: Sequence[int],
) -> None:
    """Refuse a write after which more of a partition's rows are gone, or are others, than the table allows.

    Raises DataFault (retrying does not help) unless the request says that it is meant.
    """
    limit = table.max_changed_ratio
    if limit is None or request.allow_change:
        return
    problems = [
        f"partition {scope.partitions[n].key!r}: of {before[n]} rows only {before[n] - difference.removed} would stay "
        f"as they are, {difference.removed} would go or be others, {difference.added} would come"
        for n in changed
        if (difference := differences[n]) is not None and before.get(n) and difference.removed > limit * before[n]
    ]
    if problems:
        raise DataFault(refused(table, scope, problems, _advice(f"At most {limit:.0%} of the rows may change")))


def refuse_sums(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    scope: Scope,
    request: Request,
    old: Rows | None,
    new: Rows | None,
    changed: Sequence[int],
) -> None:
    """Refuse a write after which the sum of a column is further from what it was than the table allows.

    A partition without rows, or without a value in the column, has no sum to compare with. One that was 0 may not
    change at all. Raises DataFault (retrying does not help) unless the request says that it is meant.
    """
    if not table.max_sum_change or request.allow_change or old is None or new is None or not changed:
        return
    limits = {name.lower(): limit for name, limit in table.max_sum_change}
    _refuse_unusable(table, scope, limits, old, new)
    before, after = (_sums(connection, rows._replace(only=tuple(changed)), limits) for rows in (old, new))
    problems = list(_too_far(scope, limits, before, after))
    if problems:
        raise DataFault(refused(table, scope, problems, _advice("Sums may change by no more than max_sum_change says")))


def _too_far(
    scope: Scope,
    limits: Mapping[str, float],
    before: Mapping[int, Mapping[str, Any]],
    after: Mapping[int, Mapping[str, Any]],
) -> Iterator[str]:
    for n, sums in sorted(before.items()):
        for name, was in sums.items():
            becomes = after.get(n, {}).get(name) or 0
            if was is not None and abs(float(becomes) - float(was)) > limits[name] * abs(float(was)):
                share = f" ({(float(becomes) - float(was)) / abs(float(was)):+.0%})" if was else ""
                yield (
                    f"partition {scope.partitions[n].key!r}: sum({name}) would go from {was} to {becomes}{share}, "
                    f"further than {limits[name]:.0%}"
                )


def _sums(connection: duckdb.DuckDBPyConnection, rows: Rows, names: Mapping[str, float]) -> dict[int, dict[str, Any]]:
    """The sums of these columns per position of the scope; a column that the rows do not have has none."""
    chosen = [column for column in rows.columns if column.name.lower() in names]
    binds = Binds()
    sums = "".join(f", sum({column.value})" for column in chosen)
    position = rows.placement.position(rows.place, binds)
    query = f"SELECT {position}{sums} FROM {rows.relation} {rows.where(binds)} GROUP BY 1"
    found = connection.execute(query, binds.values or None).fetchall()
    return {n: dict(zip((c.name.lower() for c in chosen), values, strict=True)) for n, *values in found}


def _refuse_unusable(table: Table, scope: Scope, limits: Mapping[str, float], old: Rows, new: Rows) -> None:
    kinds = {column.name.lower(): str(column.type.id) for rows in (new, old) for column in rows.columns}
    problems = [f"max_sum_change names {name!r}, and there is no such column" for name in limits if name not in kinds]
    problems += [
        f"max_sum_change names {name!r}, which has no sum: it is {kinds[name].upper()}"
        for name in limits
        if name in kinds and kinds[name] not in NUMBERS
    ]
    if problems:
        advice = "Name numeric columns of the table, like max_sum_change: {amount: 0.2}."
        raise DataFault(refused(table, scope, problems, advice))


def _advice(rule: str) -> str:
    return (
        f"{rule}; if this is right, run it again with the tag etl/allow_change=true (`etl drain --allow-change`). "
        "`etl diff --rebuild` shows what would change."
    )
