"""SQL lineage: from which columns of its inputs a query computes each of its columns, read off the text by sqlglot.

Belongs here: queries and their scopes; what both column lineage and following rows upstream need to know of them. Does
not belong here: assets (`dagster.column_lineage`), rows (`etl_project.proofs`).

An edge is a value that goes into a value: through expressions, CTEs, subqueries, set operations, aggregates, and the
partitions and order of window functions. What only chooses rows (joins, WHERE, GROUP BY) is none. A query is followed
as a whole or not at all: whatever is not understood is said, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from etl_project.failures import Permanent

_DIALECT = "duckdb"
_UNNAMED = "_col_"
"""What sqlglot calls columns that have no name; DuckDB calls them otherwise, and may make several of one."""


class NotFollowed(Permanent):
    """Why a query cannot be followed to its inputs; a few words. Retrying does not help."""


class Behind(NamedTuple):
    """A column of an input, as the input calls it."""

    table: str
    column: str


class Query(NamedTuple):
    """A query as sqlglot reads it: its outermost scope, and the names of the columns it joins by USING (lower case)."""

    scope: Any
    joined_by: frozenset[str]
    named: Mapping[str, str]
    """The names of columns that are written in it, by their lower case."""


def read_query(query: str, inputs: Mapping[str, Sequence[str]]) -> Query:
    """Read a query over these tables with these columns; upper and lower case alike. Raises NotFollowed."""
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
        if not isinstance(parsed, exp.Query):
            raise NotFollowed("its query is no SELECT")
        _refuse(parsed, {column for columns in tables.values() for column in columns}, exp)
        joined_by = {name.name.lower() for join in parsed.find_all(exp.Join) for name in join.args.get("using") or ()}
        written = [*(alias.alias for alias in parsed.find_all(exp.Alias)), *parsed.named_selects]
        scope = build_scope(qualify(parsed, schema=tables, dialect=_DIALECT))
    except NotFollowed:
        raise
    except SqlglotError as error:
        raise NotFollowed(f"sqlglot cannot read its query: {str(error).splitlines()[0]}") from None
    except Exception as error:  # It is anybody's SQL, and a parser's fault is no fault of the data.
        raise NotFollowed(f"sqlglot cannot read its query: {type(error).__name__}") from error
    if scope is None:
        raise NotFollowed("its query is no SELECT")
    return Query(scope, frozenset(joined_by), {name.lower(): name for name in written})


def _refuse(parsed: Any, columns: set[str], exp: Any) -> None:
    """What sqlglot reads and does not resolve as DuckDB does."""
    odd = {exp.Pivot: "PIVOT", exp.Columns: "COLUMNS(...)", exp.PositionalColumn: "a column by its number"}
    for kind, name in odd.items():
        if parsed.find(kind) is not None:
            raise NotFollowed(f"its query has {name}")
    if any(clause.args.get("recursive") for clause in parsed.find_all(exp.With)):
        raise NotFollowed("its query is recursive")
    renamed = (alias.alias for alias in parsed.find_all(exp.Alias))
    renamed_by_tables = (name for alias in parsed.find_all(exp.TableAlias) for name in alias.args.get("columns") or ())
    taken = columns | {name.lower() for name in (*renamed, *(one.name for one in renamed_by_tables))}
    for one in parsed.find_all(exp.Lambda, exp.Comprehension):
        variables = one.expressions if isinstance(one, exp.Lambda) else [one.expression]
        if any(variable.name.lower() in taken for variable in variables):
            # To sqlglot `f(a -> 'x')` is a function of a, be it one or a value that is taken out of a column.
            raise NotFollowed("its query has a lambda, or an -> in a function, whose left side is called like a column")


def branches(scope: Any, place: int) -> list[tuple[Any, int]] | None:
    """The queries that a set operation puts together, and where each has the column of this place; else None.

    What EXCEPT takes away gives no value. Raises NotFollowed.
    """
    from sqlglot import exp  # noqa: PLC0415  # An extra.

    if not scope.set_operation_scopes:
        return None
    left, right = scope.set_operation_scopes
    if not scope.expression.args.get("by_name"):
        places = [(left, place), (right, place)]
    else:
        names = [[name.lower() for name in each.expression.named_selects] for each in (left, right)]
        if sorted(names[0]) != sorted(names[1]):
            raise NotFollowed("its query has a UNION BY NAME of different columns")
        places = [(left, place), (right, names[1].index(names[0][place]))]
    return places[:1] if isinstance(scope.expression, exp.Except) else places


def names_of(source: Any) -> list[str]:
    """The columns of a CTE or a subquery as the query around it calls them, lower case, in their places."""
    own = [name.lower() for name in getattr(source.expression, "named_selects", ())]
    renamed = [name.lower() for name in source.outer_columns]
    return [*renamed, *own[len(renamed) :]]


def columns_behind(query: str, inputs: Mapping[str, Sequence[str]]) -> dict[str, list[Behind]]:
    """For each column of the query, in their order, the columns of its inputs that its value is computed from.

    `inputs`: the columns of each table that the query may read. A column that is computed from none has an empty list.
    Raises NotFollowed where any column cannot be followed to these inputs (retrying does not help).
    """
    read = read_query(query, inputs)
    walk = _Walk({name.lower(): {c.lower(): Behind(name, c) for c in columns} for name, columns in inputs.items()})
    names = [name.lower() for name in read.scope.expression.named_selects]
    if len(set(names)) != len(names):
        raise NotFollowed("two columns of its query have one name")
    if any(name.startswith(_UNNAMED) for name in names):
        raise NotFollowed("a column of its query has no name")
    found: dict[str, list[Behind]] = {}
    try:
        for place, name in enumerate(names):
            behind = sorted(walk.of(read.scope, place))
            passed_on = next((one.column for one in behind if one.column.lower() == name), name)
            found[read.named.get(name, passed_on)] = behind
    except NotFollowed:
        raise
    except RecursionError as error:
        raise NotFollowed("its query is nested too deeply") from error
    except Exception as error:  # It is asked after a commit, which no other release of sqlglot may turn into a failure.
        raise NotFollowed(f"what sqlglot says of it is not understood: {type(error).__name__}") from error
    return found


class _Walk:
    """From a column of a scope down to columns of the inputs, which are given by their lower case."""

    def __init__(self, inputs: Mapping[str, Mapping[str, Behind]]) -> None:
        from sqlglot import exp  # noqa: PLC0415  # An extra.

        self.inputs, self.exp = inputs, exp
        self._row = (exp.TableColumn, exp.Columns, exp.PositionalColumn)
        self._known: dict[tuple[int, int], frozenset[Behind]] = {}

    def of(self, scope: Any, place: int) -> frozenset[Behind]:
        """What the column at this place of a query is computed from.

        Each is followed once, however often it is named: in a chain of CTEs the ways down double with every one.
        """
        asked = id(scope), place
        if asked not in self._known:
            self._known[asked] = frozenset(self._of(scope, place))
        return self._known[asked]

    def _of(self, scope: Any, place: int) -> Iterator[Behind]:
        parts = branches(scope, place)
        if parts is not None:
            for branch, there in parts:
                yield from self.of(branch, there)
            return
        selects = getattr(scope.expression, "selects", ())
        if place >= len(selects) or selects[place].is_star:
            raise NotFollowed("sqlglot cannot tell all columns of its query")
        yield from self._value(scope, selects[place])
        yield from self._named_windows(scope, selects[place])

    def _named_windows(self, scope: Any, value: Any) -> Iterator[Behind]:
        """What the windows that the value names are partitioned and ordered by."""
        used = {str(w.args["alias"].name).lower() for w in value.find_all(self.exp.Window) if w.args.get("alias")}
        for window in scope.expression.args.get("windows") or ():
            if window.name.lower() in used:
                yield from self._value(scope, window)
                yield from self._named_windows(scope, window)  # One may be put upon another.

    def _value(self, scope: Any, node: Any) -> Iterator[Behind]:
        """What an expression in this scope is computed from."""
        if isinstance(node, self._row):
            raise NotFollowed("its query takes a whole row as a value")
        if isinstance(node, self.exp.Query) and not isinstance(node, self.exp.Subquery):
            yield from self._subquery(scope, node)
        elif isinstance(node, self.exp.Column):
            yield from self._column(scope, node)
        else:
            for child in node.iter_expressions():
                yield from self._value(scope, child)

    def _subquery(self, scope: Any, node: Any) -> Iterator[Behind]:
        inner = next((one for one in scope.subquery_scopes if one.expression is node), None)
        if inner is None:
            raise NotFollowed("sqlglot loses a subquery of it")
        for place in range(len(node.named_selects)):
            yield from self.of(inner, place)

    def _column(self, scope: Any, column: Any) -> Iterator[Behind]:
        name, here = column.name.lower(), scope
        if not column.table or column.args.get("db"):
            raise NotFollowed(f"nobody can tell where its column {column.name!r} comes from")
        while here is not None and column.table not in here.sources:
            here = here.parent
        source = None if here is None else here.sources[column.table]
        if isinstance(source, self.exp.Table):
            yield from self._of_table(here, source, name)
        elif source is not None:
            yield from self._of_scope(source, name)
        else:
            raise NotFollowed(f"nobody can tell where its column {column.name!r} comes from")

    def _of_table(self, scope: Any, table: Any, column: str) -> Iterator[Behind]:
        if not isinstance(table.this, self.exp.Identifier):  # A function that makes rows.
            if not isinstance(table.this, self.exp.GenerateSeries):
                raise NotFollowed(f"its query reads {table.this.sql(dialect=_DIALECT)[:60]} by itself")
            yield from self._value(scope, table.this)
            return
        there = self.inputs.get(table.name.lower()) if not table.args.get("db") else None
        if there is None or column not in there:
            raise NotFollowed(f"its query reads {table.sql(dialect=_DIALECT)[:60]}, which is none of its inputs")
        yield there[column]

    def _of_scope(self, source: Any, column: str) -> Iterator[Behind]:
        """The column of a CTE or a subquery; of rows that are made of values, all that these are made of."""
        if source.is_udtf:
            if source.expression.find(self.exp.Query) is not None:
                raise NotFollowed("its query has a LATERAL subquery")
            yield from self._value(source, source.expression)
            return
        names = names_of(source)
        if column not in names:
            raise NotFollowed(f"sqlglot loses its column {column!r}")
        yield from self.of(source, names.index(column))
