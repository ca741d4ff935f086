"""Tables of a DuckDB file against their commit records.

Belongs here: looking, with the writer's own fingerprint code, in one transaction for rows and records. Nothing is
written. The file is open for a bounded number of rows at a time: between two looks writers of other processes get in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations, islice
from typing import NamedTuple

import duckdb

from etl_project.proofs.verify.findings import DaySpan, Finding, Looked, differs, said
from etl_project.proofs.verify.targets import Stored
from etl_project.storage.contract import Commit, Partition, Scope, StoreBusy, StoreUnavailable, WriteRefused
from etl_project.storage.judging import commits, judgement, row_tally
from etl_project.storage.judging.drift import Column
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.judging.placement import placing
from etl_project.storage.judging.row_tally import EMPTY, Rows, Tally
from etl_project.storage.sql import Binds, quote
from etl_project.storage.tables.store import DuckDBStore
from etl_project.storage.tables.table import DuckDBTable

ROWS_A_LOOK = 10_000_000
"""So many rows of eight columns are hashed in about a second; so long other processes wait for the file."""
_READINGS = 64

Found = tuple[dict[str | None, Commit], list[Finding]]


def look(store: DuckDBStore, target: Stored, window: DaySpan) -> Looked:
    """Every partition of the window: rows and fingerprint against its last record, and rows that have no record.

    Raises StoreBusy (retrying helps) when another process holds the file for longer than the wait setting.
    """
    looked = Looked()
    try:
        for keys in _portions(_records(store, target, window)):
            found, findings = _compared(store, target, keys)
            looked.commits |= found
            looked.findings += findings
            looked.rows += sum(commit.rows for commit in found.values())
        looked.findings += _strays(store, target, window)
    except StoreBusy:
        raise
    except (duckdb.Error, WriteRefused, StoreUnavailable) as error:
        looked.findings.append(Finding("corrupt", target.asset, None, str(store.path), f"cannot be read: {error}"))
    return looked


def _records(store: DuckDBStore, target: Stored, window: DaySpan) -> dict[str | None, Commit]:
    """The last record of every partition of the window."""
    with store.look() as connection:
        return _last(connection, target, window) if connection is not None else {}


def _last(
    connection: duckdb.DuckDBPyConnection, target: Stored, window: DaySpan, keys: Sequence[str | None] | None = None
) -> dict[str | None, Commit]:
    if not commits.exists(connection):
        return {}
    found = commits.last(connection, [target.asset], keys)
    return {key: commit for (_, key), commit in found.items() if window.holds(key) and target.owns(key)}


def _portions(records: dict[str | None, Commit]) -> Iterator[list[str | None]]:
    """The partitions in groups of about `ROWS_A_LOOK` rows, neighbours together."""
    portion: list[str | None] = []
    rows = 0
    for key in sorted(records, key=str):
        portion.append(key)
        rows += records[key].rows
        if rows >= ROWS_A_LOOK:
            yield portion
            portion, rows = [], 0
    if portion:
        yield portion


def _compared(store: DuckDBStore, target: Stored, keys: Sequence[str | None]) -> Found:
    """These partitions, records and rows of one instant."""
    with store.look() as connection:
        if connection is None:
            return {}, []
        records = _last(connection, target, DaySpan(), keys)
        if not records:
            return {}, []
        table = _Table.of(connection, target)
        if table is None:
            where = f"table {target.table.name} in {store.path}"
            gone = "the table, or its partition column, is not there; the commit says "
            return records, [Finding("missing", target.asset, k, where, gone + said(c)) for k, c in records.items()]
        return records, list(table.judged(records))


class _Table(NamedTuple):
    """A table that is there, with its columns."""

    connection: duckdb.DuckDBPyConnection
    target: Stored
    name: str
    columns: list[Column]

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, target: Stored) -> _Table | None:
        """The asset's table; None when it, or its partition column, is gone."""
        table = DuckDBTable(connection, target.table)
        if not table.exists():
            return None
        columns = table.columns()
        wanted = {name.lower() for name in target.table.partition_columns}
        if target.partitions is not None and not wanted <= {column.name.lower() for column in columns}:
            return None
        return cls(connection, target, table.name, columns)

    def judged(self, records: dict[str | None, Commit]) -> Iterator[Finding]:
        """What is wrong with these partitions."""
        scope = self.target.scope(records)
        wanted = [records[partition.key] for partition in scope.partitions]
        there = row_tally.tally(self.connection, self.rows(scope)._replace(only=range(len(wanted))))
        wrong = [n for n, commit in enumerate(wanted) if differs(commit, there.get(n, EMPTY))]
        for left_out in self._other_readings():
            if not wrong:
                return
            found = row_tally.tally(self.connection, self.rows(scope, left_out)._replace(only=tuple(wrong)))
            wrong = [n for n in wrong if differs(wanted[n], found.get(n, EMPTY))]
        for n in wrong:
            yield self._finding(wanted[n], there.get(n, EMPTY))

    def _finding(self, commit: Commit, there: Tally) -> Finding:
        where = f"table {self.target.table.name}"
        if not there.rows:
            return Finding("missing", commit.asset, commit.partition, where, f"no rows; the commit says {said(commit)}")
        told = f"{there.rows} rows, {there.fingerprint}; the commit says {said(commit)}"
        return Finding("edited", commit.asset, commit.partition, where, told)

    def rows(self, scope: Scope, left_out: Sequence[str] = ()) -> Rows:
        """The table's rows, each placed in its partition; some columns may be no content."""
        columns = [Typed(c.name, quote(c.name), c.type) for c in self.columns if c.name not in left_out]
        return judgement.placed(self.name, columns, self.target.table, scope)

    def _other_readings(self) -> Iterable[tuple[str, ...]]:
        """Which columns may have been no content when the partition was written: those that fill themselves.

        A write leaves a column with a default out of the fingerprint when its data does not bring it, and no record
        says which it brought. So a partition is right when it is in one of these readings.
        """
        wanted = {name.lower() for name in self.target.table.partition_columns}
        filled = [c.name for c in self.columns if c.filled and c.name.lower() not in wanted]
        every = chain.from_iterable(combinations(filled, n) for n in range(1, len(filled) + 1))
        return islice(every, _READINGS)


def _strays(store: DuckDBStore, target: Stored, window: DaySpan) -> list[Finding]:
    """Rows of partitions that have no commit record."""
    with store.look() as connection:
        table = _Table.of(connection, target) if connection is not None else None
        if connection is None or table is None:
            return []
        records = _last(connection, target, DaySpan())
        if target.partitions is None:
            [[rows]] = connection.execute(f"SELECT count(*) FROM {table.name}").fetchall()
            found: list[tuple[str | None, int]] = [] if records or not rows else [(None, rows)]
        else:
            found = _outside(table, records)
    where = f"table {target.table.name}"
    told = "{} rows of a partition without a commit record"
    return [
        Finding("uncommitted", target.asset, key, where, told.format(rows))
        for key, rows in found
        if window.holds(key) or (key is None and window.everything)
    ]


def _outside(table: _Table, records: dict[str | None, Commit]) -> list[tuple[str | None, int]]:
    """Days, or keys, of rows outside of the recorded partitions, with their number. NULL is a day like any other."""
    wanted, binds = table.target.table.partition_columns, Binds()
    column = next(c for c in table.columns if c.name.lower() == wanted[0].lower())
    columns = ((c.name, quote(c.name), c.type) for c in table.columns)
    value, _ = placing(table.target.table, Scope((Partition("-", "-"),)), columns)
    is_text = len(wanted) > 1 or str(column.type.id) in ("varchar", "enum")
    shown = f"({value})::VARCHAR" if is_text else f"left(({value})::VARCHAR, 10)"
    within = "false"
    if records:
        within = table.rows(table.target.scope(records)).placement.within(value, binds)
    query = f"SELECT {shown}, count(*) FROM {table.name} WHERE ({within}) IS NOT TRUE GROUP BY 1 ORDER BY 1"
    return [(key, rows) for key, rows in table.connection.execute(query, binds.values).fetchall()]
