"""Examining tables: rows against their commit records.

Belongs here: looking, with the writer's own fingerprint code, in one transaction for rows and records. Nothing is
written. The database is open for a bounded number of rows at a time: between two looks other writers get in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, combinations, islice
from typing import NamedTuple

import duckdb

from etl_project.storage.contract import (
    Commit,
    Partition,
    Partitions,
    Scope,
    StoreBusy,
    StoreUnavailable,
    Table,
    WriteRefused,
)
from etl_project.storage.judging import judgement, row_tally
from etl_project.storage.judging.drift import Column
from etl_project.storage.judging.findings import Finding, Looked, differs, said
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.judging.placement import placing
from etl_project.storage.judging.row_tally import EMPTY, Rows, Tally
from etl_project.storage.sql import Binds, quote
from etl_project.storage.tables.engine import Engine

ROWS_A_LOOK = 10_000_000
"""So many rows of eight columns are hashed in about a second; so long other processes wait for the database."""
_READINGS = 64

Found = tuple[dict[str | None, Commit], list[Finding]]


class Examination:
    """One look at one asset's table."""

    def __init__(self, engine: Engine, wait_seconds: float, table: Table, partitions: Partitions) -> None:
        self._engine = engine
        self._wait_seconds = wait_seconds
        self._table = table
        self._partitions = partitions

    def run(self) -> Looked:
        """Every partition that is asked for: rows and fingerprint against its last record; rows without a record.

        A table of one portion is looked at once, from its records to its strays: opening the database costs more.
        """
        looked = Looked()
        try:
            with self._look() as connection:
                last = self._last(connection)
                portions = list(_portions({key: one for key, one in last.items() if self._partitions.holds(key)}))
                if len(portions) <= 1:
                    table = self._open(connection)
                    for keys in portions:
                        _add(looked, self._compared(table, {key: last[key] for key in keys}))
                    looked.findings += self._strays(table, last)
                    return looked
            for keys in portions:
                _add(looked, self._portion(keys))
            with self._look() as connection:
                looked.findings += self._strays(self._open(connection), self._last(connection))
        except StoreBusy:
            raise
        except (duckdb.Error, WriteRefused, StoreUnavailable) as error:
            where, told = self._engine.identity, f"cannot be read: {error}"
            looked.findings.append(Finding("corrupt", self._table.asset, None, where, told))
        return looked

    @contextmanager
    def _look(self) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """One transaction."""
        with self._engine.looking(self._wait_seconds) as connection:
            if connection is not None:
                connection.begin()
            yield connection

    def _last(
        self, connection: duckdb.DuckDBPyConnection | None, keys: Sequence[str | None] | None = None
    ) -> dict[str | None, Commit]:
        """The last record of every partition of the asset, or of these."""
        if connection is None:
            return {}
        found = self._engine.records(connection).last([self._table.asset], keys)
        return {key: commit for (_, key), commit in found.items() if self._partitions.owns(key)}

    def _portion(self, keys: Sequence[str | None]) -> Found:
        """These partitions, in a look of their own."""
        with self._look() as connection:
            return self._compared(self._open(connection), self._last(connection, keys))

    def _compared(self, table: _Open | None, records: dict[str | None, Commit]) -> Found:
        """These partitions: records and rows of one instant."""
        if not records:
            return {}, []
        if table is not None:
            return records, list(table.judged(records))
        where = f"table {self._table.name} in {self._engine.identity}"
        gone = "the table, or its partition column, is not there; the commit says "
        asset = self._table.asset
        return records, [Finding("missing", asset, key, where, gone + said(one)) for key, one in records.items()]

    def _open(self, connection: duckdb.DuckDBPyConnection | None) -> _Open | None:
        """The asset's table; None when it, or its partition column, is gone."""
        if connection is None:
            return None
        table = self._engine.table(connection, self._table)
        if not table.exists():
            return None
        columns = table.columns()
        wanted = {name.lower() for name in self._table.partition_columns}
        if self._partitions.partitioned and not wanted <= {column.name.lower() for column in columns}:
            return None
        return _Open(connection, self._table, self._partitions, table.name, columns)

    def _strays(self, table: _Open | None, records: dict[str | None, Commit]) -> list[Finding]:
        """Rows of partitions that have no commit record, given the last record of every partition that has one."""
        if table is None:
            return []
        if not self._partitions.partitioned:
            [[rows]] = table.connection.execute(f"SELECT count(*) FROM {table.name}").fetchall()
            found: list[tuple[str | None, int]] = [] if records or not rows else [(None, rows)]
        else:
            found = table.outside(records)
        where = f"table {self._table.name}"
        told = "{} rows of a partition without a commit record"
        return [
            Finding("uncommitted", self._table.asset, key, where, told.format(rows))
            for key, rows in found
            if self._partitions.holds(key)
        ]


def _add(looked: Looked, compared: Found) -> None:
    commits, findings = compared
    looked.commits |= commits
    looked.findings += findings
    looked.rows += sum(commit.rows for commit in commits.values())


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


class _Open(NamedTuple):
    """A table that is there, with its columns."""

    connection: duckdb.DuckDBPyConnection
    table: Table
    partitions: Partitions
    name: str
    columns: list[Column]

    def judged(self, records: dict[str | None, Commit]) -> Iterator[Finding]:
        """What is wrong with these partitions."""
        scope = self.partitions.scope(records)
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
        where = f"table {self.table.name}"
        if not there.rows:
            return Finding("missing", commit.asset, commit.partition, where, f"no rows; the commit says {said(commit)}")
        told = f"{there.rows} rows, {there.fingerprint}; the commit says {said(commit)}"
        return Finding("edited", commit.asset, commit.partition, where, told)

    def rows(self, scope: Scope, left_out: Sequence[str] = ()) -> Rows:
        """The table's rows, each placed in its partition; some columns may be no content."""
        columns = [Typed(c.name, quote(c.name), c.type) for c in self.columns if c.name not in left_out]
        return judgement.placed(self.name, columns, self.table, scope)

    def _other_readings(self) -> Iterable[tuple[str, ...]]:
        """Which columns may have been no content when the partition was written: those that fill themselves.

        A write leaves a column with a default out of the fingerprint when its data does not bring it, and no record
        says which it brought. So a partition is right when it is in one of these readings.
        """
        wanted = {name.lower() for name in self.table.partition_columns}
        filled = [c.name for c in self.columns if c.filled and c.name.lower() not in wanted]
        every = chain.from_iterable(combinations(filled, n) for n in range(1, len(filled) + 1))
        return islice(every, _READINGS)

    def outside(self, records: dict[str | None, Commit]) -> list[tuple[str | None, int]]:
        """Days, or keys, of rows outside of the recorded partitions, with their number. NULL is a day like others."""
        wanted, binds = self.table.partition_columns, Binds()
        column = next(c for c in self.columns if c.name.lower() == wanted[0].lower())
        columns = ((c.name, quote(c.name), c.type) for c in self.columns)
        value, _ = placing(self.table, Scope((Partition("-", "-"),)), columns)
        is_text = len(wanted) > 1 or str(column.type.id) in ("varchar", "enum")
        shown = f"({value})::VARCHAR" if is_text else f"left(({value})::VARCHAR, 10)"
        within = "false"
        if records:
            within = self.rows(self.partitions.scope(records)).placement.within(value, binds)
        query = f"SELECT {shown}, count(*) FROM {self.name} WHERE ({within}) IS NOT TRUE GROUP BY 1 ORDER BY 1"
        return [(key, rows) for key, rows in self.connection.execute(query, binds.values).fetchall()]
