"""Plain columns: which columns of a query are columns of its inputs, unchanged, so that rows can be followed upstream.

Belongs here: reading that off the SQL, as `storage.sql_lineage` takes it apart. Does not belong here: rows (`explain`).

A column is plain where every input row that a result row is made of has that very value in it: columns passed through
subqueries, CTEs, set operations and joins, keys of a GROUP BY, and columns of USING. Beside window functions, whose
values come from other rows too, only what all of them are partitioned by (but for numbers of rows). In doubt it is not:
an input whose columns are not known to be plain is not narrowed. A query may read a table more than once, as a join
with itself does: each time it has plain columns of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from etl_project.storage import NotFollowed, branches, names_of, read_query

_DIALECT = "duckdb"
_NUMBERING = ("row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile")

_MOST_READINGS = 1_000
"""A query that joins a part of itself with itself, and that again, reads a table twice as often with each step."""

_Path = tuple[str | int, ...]
"""The way from a query down to one reading of a table: names of sources, numbers of branches and subqueries."""


class _Reading(NamedTuple):
    """One of the times that a query reads a table."""

    path: _Path
    table: str


def plain_columns(query: str, inputs: Mapping[str, Sequence[str]]) -> dict[str, list[dict[str, str]]]:
    """By input, for each time that the query reads it, the columns of the result that are plain columns of it then.

    As name in the result and name in the input, both lower case; none where that reading has no plain columns.
    `inputs` are the columns of the tables that the query reads. Raises NotFollowed.
    """
    read = read_query(query, inputs)
    from sqlglot import exp  # noqa: PLC0415  # An extra: `read_query` has said so where it is not there.

    _refuse(read.scope.expression, exp)
    tables = {name.lower() for name in inputs}
    readings: dict[_Reading, dict[str, str]] = {
        reading: {} for reading in _all_readings(read.scope, exp) if reading.table in tables
    }
    for place, name in enumerate(read.scope.expression.named_selects):
        for reading, column in _origins(read.scope, place, (), read.joined_by, exp):
            if reading in readings:
                readings[reading][name.lower()] = column
    return {
        table: [columns for reading, columns in readings.items() if reading.table == table]
        for table in dict.fromkeys(reading.table for reading in readings)
    }


def _refuse(parsed: Any, exp: Any) -> None:
    """Queries in which a passed-through column says nothing of the rows behind it."""
    odd = {exp.Rollup: "ROLLUP", exp.Cube: "CUBE", exp.GroupingSets: "GROUPING SETS"}
    for kind, name in odd.items():
        if parsed.find(kind) is not None:
            raise NotFollowed(f"its query has {name}")


def _all_readings(scope: Any, exp: Any) -> list[_Reading]:
    """Every time that the query reads a table. Raises NotFollowed where one is read in a way that is not known."""
    seen: set[int] = set()
    found = list(islice(_readings(scope, (), seen, exp), _MOST_READINGS + 1))
    if len(found) > _MOST_READINGS:
        raise NotFollowed(f"its query reads its tables more than {_MOST_READINGS:,} times over")
    lost = next((table for table in scope.expression.find_all(exp.Table) if id(table) not in seen), None)
    if lost is not None:
        raise NotFollowed(f"nobody can tell what its query reads {lost.name} for")
    return found


def _readings(scope: Any, path: _Path, seen: set[int], exp: Any) -> Iterator[_Reading]:
    for n, branch in enumerate(scope.set_operation_scopes):
        yield from _readings(branch, (*path, n), seen, exp)
    for name, (node, source) in () if scope.set_operation_scopes else scope.selected_sources.items():
        seen.update(id(table) for table in [node] if isinstance(table, exp.Table))
        if isinstance(source, exp.Table):
            seen.add(id(source))
            yield _Reading((*path, name), source.name.lower())
        else:
            yield from _readings(source, (*path, name), seen, exp)
    for n, subquery in enumerate(scope.subquery_scopes):
        yield from _readings(subquery, (*path, "subquery", n), seen, exp)


def _origins(
    scope: Any, place: int, path: _Path, joined_by: frozenset[str], exp: Any
) -> Iterator[tuple[_Reading, str]]:
    """The readings and columns that the column at this place is a plain column of."""
    parts = branches(scope, place)
    if parts is not None:
        for n, (branch, there) in enumerate(parts):
            yield from _origins(branch, there, (*path, n), joined_by, exp)
        return
    selects = getattr(scope.expression, "selects", ())
    if place >= len(selects):
        return
    windows = [window for window in scope.find_all(exp.Window) if not _numbers(window)]
    for column in _columns(selects[place].unalias().unnest(), joined_by, exp):
        if any(column not in window.args.get("partition_by", ()) for window in windows):
            continue
        source = scope.sources.get(column.table)
        if isinstance(source, exp.Table):
            yield _Reading((*path, column.table), source.name.lower()), column.name.lower()
        elif source is not None and column.name.lower() in (names := names_of(source)):
            there = names.index(column.name.lower())
            yield from _origins(source, there, (*path, column.table), joined_by, exp)


def _numbers(window: Any) -> bool:
    """Whether a window function only says where a row stands among others: then no value is theirs."""
    return window.this.sql(dialect=_DIALECT).partition("(")[0].lower() in _NUMBERING


def _columns(value: Any, joined_by: frozenset[str], exp: Any) -> list[Any]:
    """The columns that a value is, unchanged: itself, or those of a USING that are one in the result."""
    if isinstance(value, exp.Column):
        return [value]
    if isinstance(value, exp.Coalesce):
        parts = [value.this, *value.expressions]
        names = {part.name.lower() for part in parts if isinstance(part, exp.Column)}
        if all(isinstance(part, exp.Column) for part in parts) and len(names) == 1 and names <= joined_by:
            return parts
    return []
