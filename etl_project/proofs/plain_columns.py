"""Plain columns: which columns of a query are columns of its inputs, unchanged, so that rows can be followed upstream.

Belongs here: reading that off the SQL with sqlglot (extra `lineage`). Does not belong here: rows (`explain`).

A column is plain where every input row that a result row is made of has that very value in it: columns passed through
subqueries, CTEs, set operations and joins, keys of a GROUP BY, and columns of USING. Beside window functions, whose
values come from other rows too, only what all of them are partitioned by (but for numbers of rows). In doubt it is not:
an input whose columns are not known to be plain is not narrowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etl_project.failures import Permanent

_DIALECT = "duckdb"
_NUMBERING = ("row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile")


class NotFollowed(Permanent):
    """Why the rows of a query cannot be followed to rows of its inputs; a few words. Retrying does not help."""


def plain_columns(query: str, inputs: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """By input the columns of the result that are plain columns of it: name in the result, name in the input.

    `inputs` are the columns of the tables that the query reads. Names are lower case. Raises NotFollowed.
    """
    try:
        from sqlglot import exp, parse_one  # noqa: PLC0415  # An extra.
        from sqlglot.errors import SqlglotError  # noqa: PLC0415
        from sqlglot.optimizer.qualify import qualify  # noqa: PLC0415
        from sqlglot.optimizer.scope import build_scope  # noqa: PLC0415
    except ImportError:
        raise NotFollowed("sqlglot is not installed (pip install 'etl-project[lineage]')") from None
    tables: dict[str, Any] = {
        name.lower(): {column.lower(): "VARCHAR" for column in columns} for name, columns in inputs.items()
    }
    try:
        parsed = parse_one(query, dialect=_DIALECT)
        _refuse(parsed, exp)
        joined_by = {name.name.lower() for join in parsed.find_all(exp.Join) for name in join.args.get("using") or ()}
        scope = build_scope(qualify(parsed, schema=tables, dialect=_DIALECT))
    except SqlglotError as error:
        raise NotFollowed(f"sqlglot cannot read its query: {str(error).splitlines()[0]}") from None
    selected: Any = scope.expression if scope is not None else None
    if selected is None:
        raise NotFollowed("its query is no SELECT")
    found: dict[str, dict[str, str]] = {}
    for place, name in enumerate(selected.named_selects):
        for table, column in _origins(scope, place, joined_by, exp):
            if table in tables:
                found.setdefault(table, {})[name.lower()] = column
    return found


def _refuse(parsed: Any, exp: Any) -> None:
    """Queries in which a passed-through column says nothing of the rows behind it, or an input has two roles."""
    odd = {exp.Rollup: "ROLLUP", exp.Cube: "CUBE", exp.GroupingSets: "GROUPING SETS", exp.Pivot: "PIVOT"}
    for kind, name in odd.items():
        if parsed.find(kind) is not None:
            raise NotFollowed(f"its query has {name}")
    if any(clause.args.get("recursive") for clause in parsed.find_all(exp.With)):
        raise NotFollowed("its query is recursive")
    twice = [
        name for name, count in Counter(table.name.lower() for table in parsed.find_all(exp.Table)).items() if count > 1
    ]
    if twice:
        raise NotFollowed(f"its query reads {', '.join(sorted(twice))} more than once")


def _origins(scope: Any, place: int, joined_by: set[str], exp: Any) -> Iterator[tuple[str, str]]:
    """The tables and columns that the column at this place is a plain column of."""
    if scope.set_operation_scopes:
        for branch in scope.set_operation_scopes:
            yield from _origins(branch, place, joined_by, exp)
        return
    selects = scope.expression.selects
    if place >= len(selects):
        return
    windows = [window for window in scope.find_all(exp.Window) if not _numbers(window)]
    for column in _columns(selects[place].unalias().unnest(), joined_by, exp):
        if any(column not in window.args.get("partition_by", ()) for window in windows):
            continue
        source = scope.sources.get(column.table)
        if isinstance(source, exp.Table):
            yield source.name.lower(), column.name.lower()
        elif source is not None and getattr(source.expression, "named_selects", None):
            names = [name.lower() for name in source.expression.named_selects]
            if column.name.lower() in names:
                yield from _origins(source, names.index(column.name.lower()), joined_by, exp)


def _numbers(window: Any) -> bool:
    """Whether a window function only says where a row stands among others: then no value is theirs."""
    return window.this.sql(dialect=_DIALECT).partition("(")[0].lower() in _NUMBERING


def _columns(value: Any, joined_by: set[str], exp: Any) -> list[Any]:
    """The columns that a value is, unchanged: itself, or those of a USING that are one in the result."""
    if isinstance(value, exp.Column):
        return [value]
    if isinstance(value, exp.Coalesce):
        parts = [value.this, *value.expressions]
        names = {part.name.lower() for part in parts if isinstance(part, exp.Column)}
        if all(isinstance(part, exp.Column) for part in parts) and len(names) == 1 and names <= joined_by:
            return parts
    return []
