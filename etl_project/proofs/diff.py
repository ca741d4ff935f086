"""Diff: what differs between two sets of rows of one day, as a reviewer wants it.

Belongs here: rows added, removed and changed by key, cells changed by column, sums before and after, examples. Does not
belong here: which two sets those are (`cli.diff`), pairing rows that have no key (`storage.judging.deviation`).

Both sides are copied into a database of their own, which spills to disk; a difference of types that a lossless widening
explains is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import duckdb

from etl_project.proofs.verify.targets import Stored
from etl_project.storage import (
    Example,
    Rows,
    Slice,
    Store,
    Typed,
    deviation,
    fingerprint,
    in_memory,
    judgement,
    of_contract,
    quote,
    row_tally,
    scannable,
)

_OF_FILES = ("source_line",)
"""Where a raw row comes from: a number, and of nothing that is counted."""


class Sum(NamedTuple):
    """The sum of a numeric column, before and after, as text; None where there is no value."""

    before: str | None
    after: str | None


@dataclass(frozen=True)
class Difference:
    """What differs in one partition.

    Where rows have a key, `changed` rows are there on both sides with other values, and `added` and `removed` are keys
    of one side only; without a key `changed` is None, and rows count by their content. `columns`: in how many rows
    each column changed, None where no key tells. `not_summed`: numeric columns that tell rows apart, whose sums would
    say nothing.
    """

    partition: str | None
    rows_before: int
    rows_after: int
    added: int
    removed: int
    changed: int | None
    columns: Mapping[str, int | None] = field(default_factory=dict)
    sums: Mapping[str, Sum] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    note: str | None = None
    not_summed: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.added or self.removed or self.changed)


class Side(NamedTuple):
    """One set of rows, and the store that they are read from."""

    store: Store
    rows: Slice


def identifying(targets: Iterable[Stored]) -> frozenset[str]:
    """The columns, in lower case, by which rows of any of these assets are known, as their contracts say it.

    What is a key in one table is as little a number where others refer to it.
    """
    found = set(_OF_FILES)
    for table in (target.table for target in targets):
        if table.contract_sql is not None:
            rules = of_contract(table.contract_sql, table.schema or "main", table.name, table.asset)
            found |= {name.lower() for key in (rules.keys if rules else ()) for name in key.columns}
    return frozenset(found)


def difference(
    target: Stored, partition: str | None, before: Side, after: Side, identifiers: Collection[str] = ()
) -> Difference:
    """Compare two sets of rows of a partition; columns of these names, and of its key, are not summed.

    Raises what reading raises: StoreBusy, InputChanged (retrying helps).
    """
    with _both(target, partition, before, after) as (connection, old, new):
        own = target.store.key(target.table)
        key = _shared_key(connection, own, old, new)
        counts = _by_key(connection, old, new, key) if key else _by_content(connection, old, new)
        rows_before, rows_after = (row_tally.count(connection, rows).get(0, 0) for rows in (old, new))
        found: tuple[tuple[str, ...], tuple[Example, ...], str | None] = ((), (), None)
        if counts.added or counts.removed or counts.changed:
            found = deviation.compare(connection, old, new, key)
        columns, examples, note = found
        apart = {name.lower() for name in (*own, *identifiers)}
        numeric = [column.name for column in new.columns if str(column.type.id) in row_tally.NUMBERS]
        left_out = tuple(name for name in numeric if name.lower() in apart)
        return Difference(
            partition,
            rows_before,
            rows_after,
            counts.added,
            counts.removed,
            counts.changed if key else None,
            counts.columns if key else dict.fromkeys(columns),
            _sums(connection, old, new, {*left_out, *target.table.partition_columns}),
            examples,
            note,
            left_out,
        )


class _Counts(NamedTuple):
    added: int
    removed: int
    changed: int = 0
    columns: Mapping[str, int | None] = {}


@contextmanager
def _both(
    target: Stored, partition: str | None, before: Side, after: Side
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Rows, Rows]]:
    """Both sides in one connection, with the same columns: one that a side does not have is NULL there."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="etl-diff-"))
        connection = stack.enter_context(in_memory(Path(folder)))
        scope = target.scope([] if partition is None else [partition])
        sides = []
        for side in (before, after):
            stream = stack.enter_context(side.store.batches(side.rows))
            payload = stack.enter_context(scannable(connection, stream, stage=True))
            columns = [Typed(column.name, quote(column.name), column.type) for column in payload.columns]
            sides.append(judgement.placed(quote(payload.name), columns, target.table, scope)._replace(only=(0,)))
        old, new = deviation.aligned(*sides)
        yield connection, old, new


def _shared_key(connection: duckdb.DuckDBPyConnection, key: Sequence[str], old: Rows, new: Rows) -> list[str]:
    """The key, where both sides have its columns and no value twice; none where they do not."""
    wanted = [name.lower() for name in key]
    for rows in (old, new):
        chosen = [column for column in rows.columns if column.name.lower() in wanted]
        if not wanted or len(chosen) < len(wanted):
            return []
        query = f"SELECT count(*), count(DISTINCT {fingerprint.row_hash(chosen)}) FROM {rows.relation}"
        [[count, distinct]] = connection.execute(query).fetchall()
        if count != distinct:
            return []
    return list(key)


def _by_key(connection: duckdb.DuckDBPyConnection, old: Rows, new: Rows, key: Sequence[str]) -> _Counts:
    names = {name.lower() for name in key}
    others = [n for n, column in enumerate(old.columns) if column.name.lower() not in names]

    def side(rows: Rows) -> str:
        who = fingerprint.row_hash([column for column in rows.columns if column.name.lower() in names])
        hashes = "".join(f", {fingerprint.value_hash(rows.columns[n])} AS h{n}" for n in others)
        return f"(SELECT {who} AS who{hashes} FROM {rows.relation})"

    pair = "o.who IS NOT NULL AND n.who IS NOT NULL"
    differ = [f"(o.h{n} <> n.h{n})" for n in others]
    counts = [
        "count(*) FILTER (o.who IS NULL)",
        "count(*) FILTER (n.who IS NULL)",
        f"count(*) FILTER ({pair} AND ({' OR '.join(differ) or 'false'}))",
        *(f"count(*) FILTER ({pair} AND {one})" for one in differ),
    ]
    query = f"SELECT {', '.join(counts)} FROM {side(old)} o FULL JOIN {side(new)} n ON o.who = n.who"
    [[added, removed, changed, *cells]] = connection.execute(query).fetchall()
    columns = {old.columns[n].name: count for n, count in zip(others, cells, strict=True) if count}
    return _Counts(added, removed, changed, columns)


def _by_content(connection: duckdb.DuckDBPyConnection, old: Rows, new: Rows) -> _Counts:
    found = row_tally.difference(connection, old, new).get(0)
    return _Counts(0, 0) if found is None else _Counts(found.added, found.removed)


def _sums(connection: duckdb.DuckDBPyConnection, old: Rows, new: Rows, left_out: set[str]) -> dict[str, Sum]:
    """The sums of the numeric columns; those of floats to the digits that do not depend on the order of the rows."""
    passed_over = {name.lower() for name in left_out}
    chosen = [
        n
        for n, column in enumerate(new.columns)
        if str(column.type.id) in row_tally.NUMBERS and column.name.lower() not in passed_over
    ]
    if not chosen:
        return {}

    def ask(rows: Rows) -> Sequence[str | None]:
        sums = ", ".join(_sum(rows.columns[n]) for n in chosen)
        found: Sequence[str | None] = connection.execute(f"SELECT {sums} FROM {rows.relation}").fetchall()[0]
        return found

    pairs = zip(ask(old), ask(new), strict=True)
    return {new.columns[n].name: Sum(*pair) for n, pair in zip(chosen, pairs, strict=True)}


def _sum(column: Typed) -> str:
    if str(column.type.id) in ("float", "double"):
        return f"format('{{:.12g}}', fsum({column.value}))"
    return f"sum({column.value})::VARCHAR"
