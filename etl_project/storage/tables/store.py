"""Tables and their commit records in one database, whichever engine opens it.

Belongs here: what a store takes and answers: reading, commit records, versions, candidates. How a write is tried is
`transactions`'.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from etl_project.storage.contract import (
    Candidate,
    Commit,
    Head,
    MadeAs,
    Partitions,
    ReadRefused,
    Receipt,
    Request,
    Scope,
    Slice,
    Store,
    Table,
    Version,
    WriteRefused,
)
from etl_project.storage.fetch import arrow_reader, arrow_table
from etl_project.storage.judging import payload
from etl_project.storage.judging.findings import Finding, Looked
from etl_project.storage.judging.messages import DataFault, refused, what
from etl_project.storage.judging.publishing import no_candidate, waits
from etl_project.storage.judging.selection import check, chosen, where
from etl_project.storage.judging.versions import not_kept
from etl_project.storage.sql import Binds, quote
from etl_project.storage.tables import aside, owners
from etl_project.storage.tables.engine import Engine
from etl_project.storage.tables.examine import Examination
from etl_project.storage.tables.transactions import Transactions, roll_back


class TableStore(Transactions):
    """Tables and their commit records in the database of an engine; see the contract in `storage.contract`.

    A kill at any instruction leaves what the last COMMIT left. Raises StoreBusy (retrying helps) when somebody else is
    in the way for longer than `wait_seconds`.
    """

    def seen_from(self, engine: Engine) -> Store:
        """The same store, as another engine shows it."""
        return TableStore(engine, self.wait_seconds)

    def __str__(self) -> str:
        return self.identity

    def replace(self, table: Table, scope: Scope, data: Any, request: Request) -> list[Commit]:
        """Make the scope hold exactly `data`, or change nothing.

        Raises WriteRefused or PartlyCommitted (retrying does not help), StoreBusy, StoreUnavailable or InputChanged
        (it does). A kill before COMMIT leaves the old rows, one after it the new ones and their records.
        """
        check(table, scope)
        reads = [*request.reads, *(read for piece in payload.slices_of(data) for read in piece.reads)]
        self._refuse_foreign(table, scope, data)
        with self.connect() as connection, payload.scannable(connection, data) as rows:
            try:
                return self._patiently(connection, table, scope, request, reads, rows)
            except DataFault:
                if len(scope.partitions) == 1:
                    raise
            return self._one_by_one(connection, table, scope, request, reads, rows)

    def read(self, table: Table, scope: Scope, columns: Sequence[str] | None = None) -> Slice:
        """A lazy slice of exactly these partitions and columns.

        Raises ReadRefused when the table or a column does not exist (retrying does not help).
        """
        with self.look() as connection:
            there = self.engine.table(connection, table) if connection is not None else None
            if connection is None or there is None or not there.exists():
                raise ReadRefused(
                    f"{what(table, scope)}: there is no table {table.name!r} in {self.identity}. "
                    "Retrying does not help. Materialize the asset first."
                )
            owners.refuse_another(connection, table, there.schema, self.engine.schema)
            kinds = {column.name: column.type for column in there.columns()}
            names = chosen(kinds, columns, table, scope)
            binds = Binds()
            condition = where(kinds, table, scope, binds)
            select = f"SELECT {', '.join(map(quote, names))} FROM {there.name}{condition}"
            frame = owners.frame_of(connection, there.schema, table.name, self.engine.schema)
            made_as = MadeAs(table.asset, tuple(names), select)
            return Slice(select, binds.values, self.identity, self._receipts(connection, table, scope), frame, made_as)

    def arrow(self, piece: Slice) -> pa.Table:
        """The rows of a slice, in memory. Raises InputChanged when they were rewritten since (retrying helps)."""
        with self._snapshot(piece) as connection:
            return arrow_table(connection.execute(piece.sql, dict(piece.params) or None))

    @contextmanager
    def batches(self, piece: Slice) -> Iterator[pa.RecordBatchReader]:
        """The rows of a slice as a stream. The file stays open for as long as the block lasts."""
        with self.connect() as connection:
            connection.begin()
            self._refuse_changed(connection, piece.reads)
            # One that was not read to its end would keep the file open for as long as somebody has it.
            with closing(arrow_reader(connection.execute(piece.sql, dict(piece.params) or None))) as reader:
                yield reader

    def last_commits(
        self,
        assets: Iterable[str] | None = None,
        partitions: Collection[str | None] | None = None,
    ) -> dict[tuple[str, str | None], Commit]:
        """The newest commit record of every (asset, partition), or of the given ones.

        One short read-only open. Raises StoreBusy when another process holds the file for longer than the store's
        `wait_seconds` (retrying helps); a store made with 0 says so at once.
        """
        with self.look() as connection:
            return {} if connection is None else self.engine.records(connection).last(assets, partitions)

    def without_table(self, tables: Mapping[str, str]) -> frozenset[str]:
        """Those of these assets, each with the name of its table, whose table is gone. Raises StoreBusy as `heads`."""
        with self.look() as connection:
            return frozenset() if connection is None else owners.without_table(connection, tables, self.engine.schema)

    def versions(self, table: Table, key: str | None) -> list[Version]:
        """The replaced rows of a partition that are kept, oldest first."""
        with self.engine.looking(self.wait_seconds) as connection:
            if connection is None:
                return []
            history = self.engine.records(connection).history(table.asset, key)
            return self.engine.versions(connection).of(table, key, history)

    def read_version(self, table: Table, key: str | None, sequence: int) -> Slice:
        """A lazy slice of kept rows. Raises ReadRefused where there are none (retrying does not help)."""
        with self.engine.looking(self.wait_seconds) as connection:
            if connection is None:
                raise not_kept(table, key, sequence)
            return self.engine.versions(connection).read(table, key, sequence, self.identity)

    def candidates(self, assets: Iterable[str]) -> list[Candidate]:
        """The rows that did not pass their checks."""
        with self.engine.looking(self.wait_seconds) as connection:
            return [] if connection is None else [one for one, is_next in self._kept(connection, assets) if is_next]

    def read_candidate(self, table: Table, key: str | None) -> Slice:
        """A lazy slice of a candidate. Raises ReadRefused where there is none (retrying does not help)."""
        with self.engine.looking(self.wait_seconds) as connection:
            there = [] if connection is None else self._kept(connection, [table.asset])
            if connection is None or not any(one.record.partition == key and is_next for one, is_next in there):
                raise ReadRefused(no_candidate(table, key))
            return self.engine.candidates(connection).read(table, key, self.identity)

    def drop_left_candidates(self, assets: Mapping[str, bool], *, dry_run: bool = False) -> list[Commit]:
        """Remove candidates that wait for nothing, in one transaction; see `Store.drop_left_candidates`."""
        with self.look() as looking:
            left = [] if looking is None else self._left(looking, assets)
        if not left or dry_run:
            return left
        with self.connect() as connection:
            try:
                connection.begin()
                left = self._left(connection, assets)
                for record in left:
                    self.engine.candidates(connection).drop(record.asset, [record.partition])
                self.engine.commit(connection)
            except duckdb.Error as error:
                roll_back(connection)
                raise self.engine.meaning(error) from error
        return left

    def _left(self, connection: duckdb.DuckDBPyConnection, assets: Mapping[str, bool]) -> list[Commit]:
        kept = self._kept(connection, assets)
        return [one.record for one, is_next in kept if not (is_next and assets[one.record.asset])]

    def _kept(self, connection: duckdb.DuckDBPyConnection, assets: Iterable[str]) -> list[tuple[Candidate, bool]]:
        """The candidates that there are, and whether each is still the next commit of its partition."""
        found = self.engine.candidates(connection).of(assets)
        if not found:
            return []
        records = [one.record for one in found]
        last = self.engine.records(connection).last({r.asset for r in records}, {r.partition for r in records})
        return [(one, waits(one, last.get((one.record.asset, one.record.partition)))) for one in found]

    def damaged(self, table: Table, keys: Collection[str | None] | None = None) -> dict[str | None, str]:
        """None: a partition of a table is not there for itself, so it cannot be damaged alone."""
        return {}

    def filled(self, table: Table) -> list[str]:
        """The columns of the table that have a default."""
        with self.engine.looking(self.wait_seconds) as connection:
            there = None if connection is None else self.engine.table(connection, table)
            return [c.name for c in there.columns() if c.filled] if there is not None and there.exists() else []

    def pinned(self, assets: Iterable[str]) -> list[Commit]:
        """The newest commits that brought rows back."""
        with self.engine.looking(self.wait_seconds) as connection:
            return [] if connection is None else self.engine.records(connection).pinned(assets)

    def heads(self, assets: Iterable[str]) -> Iterator[tuple[str, str | None, Head]]:
        """The newest commit of every partition of these assets, in short. Raises StoreBusy as `last_commits` does."""
        with self.look() as connection:
            if connection is not None:
                yield from list(self.engine.records(connection).heads(assets))

    def examine(self, table: Table, partitions: Partitions) -> Looked:
        """Rows against commit records; see `Store.examine`."""
        return Examination(self.engine, self.wait_seconds, table, partitions).run()

    def unrecorded(self, table: Table, key: str | None) -> Finding:
        """A partition that was made and has no record: a table's records outlive its rows, so neither is there."""
        told = "neither a commit record nor rows; Dagster has the partition as materialized"
        return Finding("not committed", table.asset, key, f"table {table.name}", told)

    def key(self, table: Table) -> list[str]:
        """The primary key, else a unique constraint."""
        with self.look() as connection:
            return [] if connection is None else self.engine.table(connection, table).key()

    def adopt(self, other: Store, table: Table, scope: Scope | None, *, records: bool = True) -> None:
        """Copy partitions of another database, in their order; see `Store.adopt`."""
        if not isinstance(other, TableStore):
            raise TypeError(f"{table.asset}: a store of tables takes over from one of its kind, not from {other!r}")
        aside.adopt(self, other, table, scope, records=records)

    def shuffle(self, turn: int) -> None:
        """Bring the rows of every table into another order; see `Store.shuffle`."""
        with self.connect() as connection:
            aside.shuffle(connection, turn)

    @contextmanager
    def _snapshot(self, piece: Slice) -> Iterator[duckdb.DuckDBPyConnection]:
        """A transaction in which what the slice stands for is still what it was."""
        with self.look() as connection:
            if connection is None:
                raise ReadRefused(
                    f"{self.identity} does not exist. Retrying does not help. Materialize the asset first."
                )
            self._refuse_changed(connection, piece.reads)
            yield connection

    def _receipts(self, connection: duckdb.DuckDBPyConnection, table: Table, scope: Scope) -> tuple[Receipt, ...]:
        keys = [partition.key for partition in scope.partitions]
        found = self.engine.records(connection).last([table.asset], keys)
        prints = {key: found[table.asset, key].fingerprint for key in keys if (table.asset, key) in found}
        return tuple(Receipt(table.asset, key, prints.get(key), self) for key in keys)

    def _refuse_foreign(self, table: Table, scope: Scope, data: Any) -> None:
        foreign = {p.database for p in payload.slices_of(data)} - {None, self.identity}
        if foreign:
            problem = f"the query reads {', '.join(sorted(map(str, foreign)))}, which is another database"
            raise WriteRefused(
                refused(
                    table, scope, [problem], "Take that input as a pyarrow table or batch reader instead of a Slice."
                )
            )
