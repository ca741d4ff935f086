"""Deviation: what a rebuild gave that differs from the build before it, although nothing it depends on has changed.

Belongs here: finding the columns that differ and a few example rows, while the old rows and the new ones are both at
hand. It runs only when a partition has turned out not to be reproducible (`judgement` decides that), so it may cost as
much as the write did; above SAMPLED_ROWS rows it looks at a sample, taken by the same hash on both sides.

Rows are paired by the table's key. Without one they are paired by the columns whose values, taken together, are the
same in both builds; what is left over was added or removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any, NamedTuple

import duckdb

from etl_project.storage.contract import Commit, Deviation, Example
from etl_project.storage.judging import fingerprint, row_tally
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.judging.row_tally import EMPTY, Rows
from etl_project.storage.sql import Binds, quote, unique

LOOKED_INTO = 3
"""Of so many partitions of one write the rows are compared; the others are only named."""
TOO_MANY = f"those of the first {LOOKED_INTO} partitions of the same write were"
REPLACED = "another build has taken the place of those since"
SAMPLED_ROWS = 100_000
EXAMPLES = 5

_CONTENT, _WHO, _ORDER, _AGAIN, _PLACE, _NUMBER = (quote(f"etl {n}") for n in range(6))
"""Columns beside those of the table, under names that no table has."""

_SHOWN_COLUMNS = 12
_SHOWN_LETTERS = 100


class Totals(NamedTuple):
    """One side of a comparison: its rows, and per column the sum of its value hashes."""

    rows: int
    by_column: dict[str, int]


def explain(
    connection: duckdb.DuckDBPyConnection, previous: Commit, old: Rows, new: Rows, key: Sequence[str]
) -> Deviation:
    """The deviation of `new` from the build that `previous` is the record of; `old` is what lies there now."""
    (there,) = row_tally.tally(connection, old).values() or (EMPTY,)
    if there.fingerprint != previous.fingerprint:
        return unexplained(previous, "those of the build before have been changed since")
    columns, examples, note = compare(connection, old, new, key)
    return Deviation(previous.fingerprint, columns, examples, note)


def unexplained(previous: Commit, why: str) -> Deviation:
    """The deviation of a partition whose rows were not compared."""
    return Deviation(previous.fingerprint, note=f"the rows were not compared: {why}")


def in_words(deviation: Deviation) -> list[str]:
    """What a person is told: the columns that differ, then one line an example row."""
    columns = ", ".join(deviation.columns)
    lines = [f"columns that differ: {columns}"] if columns else []
    lines += [_said(example) for example in deviation.examples]
    return [*lines, *([deviation.note] if deviation.note else [])] or ["rows are put together differently"]


def _said(example: Example) -> str:
    if example.new is None:
        return f"a row that was there is gone: {_listed(example.old)}"
    if example.old is None:
        return f"a row is there that was not: {_listed(example.new)}"
    changed = [name for name, text in example.new.items() if text != example.old[name]]
    steady = {name: text for name, text in example.new.items() if name not in changed}
    changes = ", ".join(f"{name} was {_shown(example.old[name])}, is {_shown(example.new[name])}" for name in changed)
    return f"{changes} where {_listed(steady)}" if steady else changes


def _listed(row: Mapping[str, str | None] | None) -> str:
    return ", ".join(f"{name} = {_shown(text)}" for name, text in (row or {}).items())


def _shown(text: str | None) -> str:
    return "NULL" if text is None else text


def compare(
    connection: duckdb.DuckDBPyConnection, old: Rows, new: Rows, key: Sequence[str]
) -> tuple[tuple[str, ...], tuple[Example, ...], str | None]:
    """The columns that differ, example rows (old and new) and a note where only a sample was compared."""
    old, new = aligned(old, new)
    before, after = _totals(connection, old), _totals(connection, new)
    moved = [name for name, total in before.by_column.items() if total != after.by_column[name]]
    identity = _identity(connection, old, new, key, before, after)
    parts = max(before.rows, after.rows) // SAMPLED_ROWS + 1
    with _left_over(connection, old, new, identity, parts) as both:
        telling = [c.name for c in old.columns if c.value != old.place]  # The partition is known.
        columns, examples = _paired(connection, both, telling or [c.name for c in old.columns], identity or [])
    note = f"compared one in {parts} rows" if parts > 1 else None
    return tuple(columns or (moved if before.rows == after.rows else [])), examples, note


def aligned(old: Rows, new: Rows) -> tuple[Rows, Rows]:
    """Both sides with the same columns in the same order; NULL where a side has none."""
    names = {c.name.lower(): c for c in [*new.columns, *old.columns]}

    def side(rows: Rows) -> Rows:
        own = {c.name.lower(): c for c in rows.columns}
        columns = [own.get(name, Typed(c.name, f"NULL::{c.type}", c.type)) for name, c in names.items()]
        return rows._replace(columns=[Typed(names[c.name.lower()].name, c.value, c.type) for c in columns])

    return side(old), side(new)


def _totals(connection: duckdb.DuckDBPyConnection, rows: Rows) -> Totals:
    binds = Binds()
    sums = "".join(f", sum(({fingerprint.value_hash(c)})::HUGEINT)" for c in rows.columns)
    query = f"SELECT count(*){sums} FROM {rows.relation} {rows.where(binds)}"
    count, *found = connection.execute(query, binds.values or None).fetchall()[0]
    return Totals(count, {c.name: total or 0 for c, total in zip(rows.columns, found, strict=True)})


def _identity(
    connection: duckdb.DuckDBPyConnection, old: Rows, new: Rows, key: Sequence[str], before: Totals, after: Totals
) -> list[str] | None:
    """The columns that say which row is which in both builds; None where no columns do."""
    totals = before.by_column
    steady = [name for name, total in totals.items() if total == after.by_column[name]]
    spelled = {name.lower(): name for name in totals}
    unique_by = [spelled[name.lower()] for name in key if name.lower() in spelled]
    if unique_by and set(unique_by) <= set(steady):
        return unique_by
    if len(steady) == len(totals):  # The same values in every column, but put together differently.
        return _all_but_one(connection, old, new)
    placing = {c.name for c in old.columns if c.value == old.place}
    if any(totals[name] and name not in placing for name in steady):
        return steady
    if unique_by:
        return unique_by
    return [] if before.rows == after.rows == 1 else None


def _all_but_one(connection: duckdb.DuckDBPyConnection, old: Rows, new: Rows) -> list[str] | None:
    """All columns but one without which the rows are the same; the last such column, as it is most often computed."""

    def without_each(rows: Rows) -> Sequence[Any]:
        """The sum of the row hashes without the first column, without the second, and so on: xor undoes itself."""
        binds = Binds()
        parts = [f"h{n}" for n in range(len(rows.columns))]
        hashes = ", ".join(
            f"{fingerprint.value_hash(c)} AS {part}" for c, part in zip(rows.columns, parts, strict=True)
        )
        whole = reduce(lambda chain, part: f"xor({chain}, {part})", parts)
        select = ", ".join(f"sum(hash(xor(whole, {part}))::HUGEINT)" for part in parts)
        inner = f"SELECT {hashes} FROM {rows.relation} {rows.where(binds)}"
        query = f"SELECT {select} FROM (SELECT *, {whole} AS whole FROM ({inner}))"
        found: Sequence[Any] = connection.execute(query, binds.values or None).fetchall()[0]
        return found

    same = [n for n, (one, other) in enumerate(zip(without_each(old), without_each(new), strict=True)) if one == other]
    return [c.name for n, c in enumerate(old.columns) if n != same[-1]] if same else None


@contextmanager
def _left_over(
    connection: duckdb.DuckDBPyConnection, old: Rows, new: Rows, identity: Sequence[str] | None, parts: int
) -> Iterator[tuple[str, str]]:
    """Two tables of the rows that the other side lacks, values as text, numbered within their identity."""
    sides = unique("etl_old"), unique("etl_new")
    for number, (name, rows) in enumerate(zip(sides, (old, new), strict=True)):
        chosen = [c for c in rows.columns if c.name in (identity or ())]
        # Rows that cannot be told apart have no partner: each side has a number of its own then.
        who = fingerprint.row_hash(chosen) if identity is not None else f"{number}::UBIGINT"
        _stage(connection, name, rows, who, fingerprint.row_hash(chosen or rows.columns), parts)
    try:
        for one, other in (sides, sides[::-1]):
            connection.execute(
                f"CREATE TEMP TABLE {one}_left AS SELECT *, row_number() OVER (PARTITION BY {_WHO} ORDER BY {_PLACE}) "
                f"AS {_NUMBER} FROM {one} ANTI JOIN {other} USING ({_CONTENT}, {_AGAIN})"
            )
        yield f"{sides[0]}_left", f"{sides[1]}_left"
    finally:
        for name in sides:
            connection.execute(f"DROP TABLE IF EXISTS {name}")
            connection.execute(f"DROP TABLE IF EXISTS {name}_left")


def _stage(connection: duckdb.DuckDBPyConnection, name: str, rows: Rows, who: str, part: str, parts: int) -> None:
    """Texts and hashes are taken before anything is sorted: sorting makes one zero of both."""
    binds = Binds()
    content = fingerprint.row_hash(rows.columns)
    texts = ", ".join(f"({c.value})::VARCHAR AS {quote(c.name)}" for c in rows.columns)
    order = ", ".join(f"({c.value})" for c in rows.columns)
    inside = rows.where(binds) or "WHERE true"
    connection.execute(
        f"CREATE TEMP TABLE {name} AS WITH taken AS MATERIALIZED (SELECT {texts}, {content} AS {_CONTENT}, "
        f"{who} AS {_WHO}, row({order}) AS {_ORDER} FROM {rows.relation} {inside} AND ({part}) % {parts} = 0) "
        f"SELECT * EXCLUDE ({_ORDER}), row_number() OVER (PARTITION BY {_CONTENT}) AS {_AGAIN}, "
        f"row_number() OVER (ORDER BY {_ORDER}) AS {_PLACE} FROM taken",
        binds.values or None,
    )


def _paired(
    connection: duckdb.DuckDBPyConnection, both: tuple[str, str], names: Sequence[str], identity: Sequence[str]
) -> tuple[list[str], tuple[Example, ...]]:
    """The columns in which paired rows differ, and examples: paired rows first, then rows of one side only."""
    joined = f"FROM {both[0]} o FULL JOIN {both[1]} n ON o.{_WHO} = n.{_WHO} AND o.{_NUMBER} = n.{_NUMBER}"
    pair = f"o.{_CONTENT} IS NOT NULL AND n.{_CONTENT} IS NOT NULL"
    differs = ", ".join(
        f"coalesce(bool_or(o.{quote(name)} IS DISTINCT FROM n.{quote(name)}) FILTER ({pair}), false)" for name in names
    )
    flags = connection.execute(f"SELECT {differs} {joined}").fetchall()[0]
    columns = [name for name, different in zip(names, flags, strict=True) if different]
    shown = _chosen(names, columns, identity)
    select = ", ".join(f"{side}.{quote(name)}" for side in "on" for name in shown)
    rows = connection.execute(
        f"SELECT o.{_CONTENT} IS NOT NULL, n.{_CONTENT} IS NOT NULL, {select} {joined} "
        f"ORDER BY NOT ({pair}), coalesce(o.{_PLACE}, n.{_PLACE}), o.{_PLACE} LIMIT {EXAMPLES}"
    ).fetchall()
    return columns, tuple(_example(shown, row) for row in rows)


def _chosen(names: Sequence[str], columns: Sequence[str], identity: Sequence[str]) -> list[str]:
    """The columns that an example shows: those that differ and those that say which row it is, in table order."""
    wanted = [name for name in [*columns, *identity] if name in names] if columns else names
    chosen = set(wanted[:_SHOWN_COLUMNS])
    return [name for name in names if name in chosen]


def _example(shown: Sequence[str], row: Sequence[Any]) -> Example:
    has_old, has_new, *values = row
    old, new = values[: len(shown)], values[len(shown) :]

    def side(there: bool, texts: Sequence[str | None]) -> dict[str, str | None] | None:
        return dict(zip(shown, map(_cut, texts), strict=True)) if there else None

    return Example(side(has_old, old), side(has_new, new))


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}…"
