"""Placement: which partition a row belongs to, as SQL over the partition column.

Belongs here: turning the bounds of a scope into expressions for a column of a known type. A partition value is either
one value (a static key, a day in a DATE column, the key itself in a text column) or an interval [lower, upper).
Instants are compared as typed UTC values: a text literal would be read in the process's time zone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, time
from typing import Any

from etl_project.storage.contract import Dimension, Partition, Scope, Table, WriteRefused
from etl_project.storage.sql import Binds
from etl_project.utc import UTC

_MANY_RANGES = 64


class Placement:
    """The scope's partitions over one column; positions are indexes into `scope.partitions`."""

    def __init__(self, scope: Scope, column: str, kind: str) -> None:
        """`kind` is the DuckDB type id of the column. Raises WriteRefused when the bounds cannot apply to it."""
        self._scope = scope
        self._static = _is_static(scope, kind)
        self._kind = kind
        if self._static:
            self._keys = [str(p.key) for p in scope.partitions]
        else:
            self._bounds = [_bounds(p, column, kind) for p in scope.partitions]

    def position(self, value: str, binds: Binds) -> str:
        """SQL for the position of the row's partition; NULL when it lies outside the scope or is NULL."""
        if self._scope.partitions[0].key is None:
            return "0"
        if self._static:
            keys = binds.add(self._keys)
            return f"(list_position({keys}, ({value})::VARCHAR) - 1)"
        return self._bisect(value, 0, len(self._bounds), binds)

    def within(self, value: str, binds: Binds, positions: Collection[int] | None = None) -> str:
        """SQL that is true for the rows of these partitions (all of the scope by default)."""
        chosen = sorted(range(len(self._scope.partitions)) if positions is None else positions)
        if self._scope.partitions[0].key is None:
            return "true" if chosen else "false"
        if self._static:
            keys = binds.add([self._keys[n] for n in chosen])
            return f"({value})::VARCHAR IN (SELECT unnest({keys}))"
        ranges = _merged([self._bounds[n] for n in chosen])
        if len(ranges) > _MANY_RANGES:
            return f"({self._bisect(value, 0, len(ranges), binds, ranges)}) IS NOT NULL"
        tests = (f"({value} >= {binds.add(low)} AND {value} < {binds.add(high)})" for low, high in ranges)
        return "(" + (" OR ".join(tests) or "false") + ")"

    def _bisect(
        self, value: str, first: int, end: int, binds: Binds, bounds: Sequence[tuple[Any, Any]] | None = None
    ) -> str:
        """A balanced tree of comparisons: log2(n) of them a row, exact for intervals of any widths."""
        bounds = self._bounds if bounds is None else bounds
        if end - first == 1:
            low, high = bounds[first]
            return f"CASE WHEN {value} >= {binds.add(low)} AND {value} < {binds.add(high)} THEN {first} END"
        middle = (first + end) // 2
        left = self._bisect(value, first, middle, binds, bounds)
        right = self._bisect(value, middle, end, binds, bounds)
        return f"CASE WHEN {value} < {binds.add(bounds[middle][0])} THEN {left} ELSE {right} END"


class NoPartitionColumn(KeyError):
    """There is no column of that name, so nothing says which partition a row belongs to."""


def placing(table: Table, scope: Scope, columns: Iterable[tuple[str, str, Any]]) -> tuple[str, Placement]:
    """The value that places a row, as SQL, and the rule that places it. `columns`: name, SQL and type of each.

    Where partitions have several dimensions it is the key itself, made of a column a dimension.
    Raises NoPartitionColumn.
    """
    there = {name.lower(): (name, value, kind) for name, value, kind in columns}
    missing = [name for name in table.partition_columns if name.lower() not in there]
    if missing:
        raise NoPartitionColumn(", ".join(map(repr, missing)))
    if not table.dimensions:
        name, value, kind = there[table.partition_columns[0].lower()]
        return value, Placement(scope, name, str(kind.id))
    parts = [_part(dimension, *there[dimension.column.lower()][1:]) for dimension in table.dimensions]
    return " || '|' || ".join(parts), Placement(scope, str(table.partition_column), "varchar")


def _part(dimension: Dimension, value: str, kind: Any) -> str:
    """The part of the key that a column holds; NULL, and so outside of every partition, where it has none."""
    if not dimension.is_day or str(kind.id) in ("varchar", "enum"):
        return f"({value})::VARCHAR"
    return f"(({value})::DATE)::VARCHAR"


def column_type_for(scope: Scope) -> str:
    """The type of a partition column that has to be made up: its data has no rows that would tell."""
    lower = scope.partitions[0].lower
    if isinstance(lower, datetime):
        return "TIMESTAMP WITH TIME ZONE"
    return "DATE" if isinstance(lower, date) else "VARCHAR"


def column_type_of(table: Table, scope: Scope, column: str) -> str:
    """The type of one of the partition columns that has to be made up."""
    for dimension in table.dimensions:
        if dimension.column.lower() == column.lower():
            return "DATE" if dimension.is_day else "VARCHAR"
    return column_type_for(scope)


def _is_static(scope: Scope, kind: str) -> bool:
    return kind in ("varchar", "enum") or any(p.upper is None for p in scope.partitions)


def _bounds(partition: Partition, column: str, kind: str) -> tuple[Any, Any]:
    """The partition's interval as values of the column's type."""
    low, high = partition.lower, partition.upper
    if not isinstance(low, date) or not isinstance(high, date):
        raise WriteRefused(f"Partition {partition.key!r} has no bounds for column {column!r}. Retrying does not help.")
    if kind == "date":
        return _as_day(low, partition, column), _as_day(high, partition, column)
    if kind == "timestamp with time zone":
        return _as_instant(low), _as_instant(high)
    if kind.startswith("timestamp"):
        return _as_instant(low).replace(tzinfo=None), _as_instant(high).replace(tzinfo=None)
    raise WriteRefused(
        f"The partition column {column!r} is of type {kind}, and partition {partition.key!r} is a span of time: "
        "it has to be a DATE, a timestamp or text holding the partition key. Retrying does not help."
    )


def _as_day(bound: date, partition: Partition, column: str) -> date:
    """A bound as a calendar day: of the partitions' own time zone where it is an instant."""
    if not isinstance(bound, datetime):
        return bound
    if bound.timetz().replace(tzinfo=None) != time(0):
        raise WriteRefused(
            f"Partition {partition.key!r} starts or ends within a day, and its column {column!r} is a DATE: rows could "
            "not be told apart. Make the column a TIMESTAMP WITH TIME ZONE. Retrying does not help."
        )
    return bound.date()


def _as_instant(bound: date) -> datetime:
    if not isinstance(bound, datetime):
        return datetime.combine(bound, time(0), UTC)
    return bound.astimezone(UTC)


def _merged(bounds: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Neighbouring intervals as one."""
    ranges: list[tuple[Any, Any]] = []
    for low, high in sorted(bounds):
        if ranges and ranges[-1][1] == low:
            ranges[-1] = (ranges[-1][0], high)
        else:
            ranges.append((low, high))
    return ranges
