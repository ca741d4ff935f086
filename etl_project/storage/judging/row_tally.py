"""Survey: everything a write has to know about some rows, found in one scan.

Belongs here: counting rows, taking fingerprints, and finding rows that lie outside the scope or whose values a cast
would change, all per partition; and comparing the content of two sets of rows. It only reads. The same code looks at
incoming rows, at what a table holds and at files.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import duckdb

from etl_project.storage.judging import fingerprint
from etl_project.storage.judging.drift import Pair, no_new_fields
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.judging.placement import Placement
from etl_project.storage.sql import Binds, quote

NUMBERS = {
    *("tinyint", "smallint", "integer", "bigint", "hugeint"),
    *("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"),
    *("float", "double", "decimal"),
}
"""The kinds of columns that have a sum, as DuckDB's types name them."""

_EXAMPLES = 3
_DAYS = 10


class Rows(NamedTuple):
    """Rows to look at: a relation, its columns as they will be stored, and the value that places a row."""

    relation: str
    columns: Sequence[Typed]
    place: str
    placement: Placement
    only: Collection[int] | None = None

    def where(self, binds: Binds) -> str:
        """The clause that limits the scan to some partitions; empty when all rows count."""
        return "" if self.only is None else f"WHERE {self.placement.within(self.place, binds, self.only)}"


class Tally(NamedTuple):
    """What one partition holds: its rows, their fingerprint, and per checked pair the number of values lost."""

    rows: int
    fingerprint: str
    lost: tuple[int, ...] = ()


EMPTY = Tally(0, fingerprint.render(0, None))


class Difference(NamedTuple):
    """How the content of a partition changes, in rows."""

    added: int
    removed: int
    kept: int


def stored_as(pair: Pair) -> Typed:
    """The value that an incoming column has once it is stored; NULL where it has none."""
    if pair.source_type is None:
        return Typed(pair.target.name, f"NULL::{pair.target.type}", pair.target.type)
    column = quote(pair.source)
    value = column if str(pair.source_type) == str(pair.target.type) else f"TRY_CAST({column} AS {pair.target.type})"
    return Typed(pair.target.name, value, pair.target.type)


def tally(connection: duckdb.DuckDBPyConnection, rows: Rows, checked: Sequence[Pair] = ()) -> dict[int | None, Tally]:
    """Per position of the scope: rows, fingerprint, lost values. Rows outside the scope are counted under None."""
    binds = Binds()
    lost = "".join(f", count(*) FILTER ({_is_lost(pair)})" for pair in checked)
    query = (
        f"SELECT {rows.placement.position(rows.place, binds)} , count(*), "
        f"sum(({fingerprint.row_hash(rows.columns)})::HUGEINT){lost} "
        f"FROM {rows.relation} {rows.where(binds)} GROUP BY 1"
    )
    found = connection.execute(query, binds.values).fetchall()
    return {row[0]: Tally(row[1], fingerprint.render(row[1], row[2]), tuple(row[3:])) for row in found}


def count(connection: duckdb.DuckDBPyConnection, rows: Rows) -> dict[int, int]:
    """Rows per position of the scope."""
    binds = Binds()
    query = (
        f"SELECT {rows.placement.position(rows.place, binds)} , count(*) "
        f"FROM {rows.relation} {rows.where(binds)} GROUP BY 1"
    )
    return dict(connection.execute(query, binds.values).fetchall())


def difference(connection: duckdb.DuckDBPyConnection, old: Rows, new: Rows) -> dict[int, Difference]:
    """Rows added, removed and kept per position, by content: a row that comes twice counts twice.

    A million rows on each side are as many groups: counting what is not NULL costs half of what summing ones does.
    """
    binds = Binds()

    def side(rows: Rows, marks: str) -> str:
        position = rows.placement.position(rows.place, binds)
        return (
            f"SELECT {position} AS p, {fingerprint.row_hash(rows.columns)} AS h, {marks} "
            f"FROM {rows.relation} {rows.where(binds)}"
        )

    query = (
        "SELECT p, sum(greatest(n - o, 0))::BIGINT, sum(greatest(o - n, 0))::BIGINT, sum(least(o, n))::BIGINT FROM ("
        "SELECT p, h, count(o) AS o, count(n) AS n FROM ("
        f"{side(old, 'true AS o, NULL::BOOLEAN AS n')} UNION ALL {side(new, 'NULL::BOOLEAN AS o, true AS n')}"
        ") GROUP BY p, h) WHERE p IS NOT NULL GROUP BY p"
    )
    return {row[0]: Difference(*row[1:]) for row in connection.execute(query, binds.values).fetchall()}


def column_hashes(connection: duckdb.DuckDBPyConnection, rows: Rows) -> dict[str, int | None]:
    """Per column the sum of the hashes of its values: where two of them differ, the column's content does."""
    binds = Binds()
    sums = ", ".join(f"sum(({fingerprint.value_hash(column)})::HUGEINT)" for column in rows.columns)
    [found] = connection.execute(
        f"SELECT {sums} FROM {rows.relation} {rows.where(binds)}", binds.values or None
    ).fetchall()
    return {column.name: total for column, total in zip(rows.columns, found, strict=True)}


def outside(connection: duckdb.DuckDBPyConnection, rows: Rows, column: str) -> list[str]:
    """What is to be said about the rows that belong to no partition of the scope: how many, where, three examples."""
    binds = Binds()
    astray = f"FROM {rows.relation} WHERE ({rows.placement.position(rows.place, binds)}) IS NULL"

    def ask(select: str, rest: str) -> list[tuple[Any, ...]]:
        return connection.execute(f"SELECT {select} {astray} {rest}", binds.values).fetchall()

    total, nulls = ask(f"count(*), count(*) FILTER (({rows.place}) IS NULL)", "")[0]
    problems = [f"{nulls} rows have NULL in the partition column {column!r}"] if nulls else []
    if total > nulls:
        found = ask(f"({rows.place})::VARCHAR, count(*)", f"AND ({rows.place}) IS NOT NULL GROUP BY 1 ORDER BY 1")
        shown = ", ".join(f"{value} ({number})" for value, number in found[:_DAYS])
        more = f" and {len(found) - _DAYS} other values" if len(found) > _DAYS else ""
        problems.append(f"{total - nulls} rows lie outside these partitions: {column} is {shown}{more}")
    examples = ask("*", f"LIMIT {_EXAMPLES}")
    return problems + [f"for example {example}" for example in examples]


def lost_values(connection: duckdb.DuckDBPyConnection, rows: Rows, pair: Pair) -> str:
    """What is to be said about the values that would change by being stored."""
    binds = Binds()
    condition = f"{rows.where(binds)} {'AND' if rows.only is not None else 'WHERE'} {_is_lost(pair)}"
    query = f"SELECT DISTINCT {quote(pair.source)}::VARCHAR FROM {rows.relation} {condition} LIMIT {_EXAMPLES}"
    examples = ", ".join(row[0] for row in connection.execute(query, binds.values).fetchall())
    said = f"column {pair.target.name!r} is {pair.target.type}, which cannot hold {pair.source_type} {examples}"
    return said + no_new_fields(pair.target.type, pair.source_type)


def _is_lost(pair: Pair) -> str:
    """SQL that is true for a value that does not come back the same from the column's type."""
    column = quote(pair.source)
    there_and_back = f"TRY_CAST(TRY_CAST({column} AS {pair.target.type}) AS {pair.source_type})"
    return f"{column} IS NOT NULL AND {there_and_back} IS DISTINCT FROM {column}"
