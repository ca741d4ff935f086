"""Tables and their commit records in one database, whichever engine opens it.

Belongs here: the transaction around a write, retries of conflicts, settling an unknown outcome, and reading. What goes
on inside the transaction is `write`'s; opening the database, and what its errors mean, is the engine's.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import duckdb
import pyarrow as pa

from etl_project import faults
from etl_project.storage.contract import (
    Candidate,
    Commit,
    Head,
    MadeAs,
    Partitions,
    PartlyCommitted,
    ReadRefused,
    Receipt,
    Request,
    Scope,
    Slice,
    Store,
    StoreBusy,
    StoreUnavailable,
    Table,
    Version,
    WriteRefused,
)
from etl_project.storage.fetch import arrow_reader, arrow_table
from etl_project.storage.interrupted import is_interruption
from etl_project.storage.judging import payload
from etl_project.storage.judging.findings import Finding, Looked
from etl_project.storage.judging.messages import ChecksFailed, DataFault, partly, refused, what
from etl_project.storage.judging.payload import Payload
from etl_project.storage.judging.publishing import no_candidate, waits
from etl_project.storage.judging.receipts import Lookup, refuse_changed
from etl_project.storage.judging.selection import check, chosen, where
from etl_project.storage.judging.versions import not_kept
from etl_project.storage.sql import Binds, quote
from etl_project.storage.tables import aside, owners
from etl_project.storage.tables.candidates import kept_instead
from etl_project.storage.tables.engine import Conflict, Engine
from etl_project.storage.tables.examine import Examination
from etl_project.storage.tables.inside import Inside, put_back, refuse_spoilt, settings_of
from etl_project.storage.tables.write import TableWrite
from etl_project.utc import now

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_DOUBTS = 8
"""How often a broken key is tried again while another connection is open: 1.3 seconds in all."""


class _Doubtful(Exception):
    """A key is broken, but perhaps by rows of a commit that is still under way."""

    def __init__(self, fault: DataFault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class TableStore:
    """Tables and their commit records in the database of an engine; see the contract in `storage.contract`.

    A kill at any instruction leaves what the last COMMIT left. Raises StoreBusy (retrying helps) when somebody else is
    in the way for longer than `wait_seconds`.
    """

    def __init__(self, engine: Engine, wait_seconds: float = 60.0) -> None:
        self.engine = engine
        self.wait_seconds = wait_seconds

    @property
    def identity(self) -> str:
        """Which database this is."""
        return self.engine.identity

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

    def history(self, asset: str, partition: str | None) -> list[Commit]:
        """All commit records of one partition, oldest first."""
        with self.look() as connection:
            return [] if connection is None else self.engine.records(connection).history(asset, partition)

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
                _roll_back(connection)
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
    def look(self) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """A connection for a look, in one transaction; None when there is no file yet. Other processes wait meanwhile.

        Raises StoreBusy (retrying helps) when another process holds the file for longer than `wait_seconds`.
        """
        with self.engine.looking(self.wait_seconds) as connection:
            if connection is not None:
                connection.begin()
            yield connection

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write, closed when the block ends, however it ends. Sessions are in UTC."""
        with self.engine.writing(self.wait_seconds) as connection:
            yield connection

    def _patiently(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        scope: Scope,
        request: Request,
        reads: Sequence[Receipt],
        rows: Payload,
        restricted: bool = False,
    ) -> list[Commit]:
        """Try again while other connections of this process are in the way, for as long as we may wait."""
        deadline, doubts = time.monotonic() + self.wait_seconds, _DOUBTS
        for pause in pauses():
            try:
                with self.engine.turn(table, max(0.0, deadline - time.monotonic())):
                    write = TableWrite(self.engine, connection, table, scope, request, rows, restricted)
                    return self._once(connection, write, request, reads)
            except _Doubtful as doubt:
                doubts -= 1
                if doubts < 0:
                    raise doubt.fault from doubt.fault.__cause__
                time.sleep(pause)
            except Conflict as conflict:
                if time.monotonic() + pause > deadline:
                    raise StoreBusy(
                        f"{what(table, scope)}: other writers of {self.identity} were in the way for "
                        f"{self.wait_seconds:g} s ({conflict}). Nothing was changed; retrying helps."
                    ) from conflict
                time.sleep(pause)
                self.engine.renew(connection)
        raise AssertionError("the pauses never end")

    def _once(
        self,
        connection: duckdb.DuckDBPyConnection,
        write: TableWrite,
        request: Request,
        reads: Sequence[Receipt],
    ) -> list[Commit]:
        """One transaction. Whatever goes wrong before COMMIT rolls it back."""
        try:
            records = self._passed(connection, write, request, self._begun(connection, write))
            self._refuse_changed(connection, reads)
            self.engine.describe(connection, records)
            request.still_owner()
            faults.reach(f"{self.engine.name}.before_commit")
        except DataFault as fault:
            _roll_back(connection)
            # Asked first: who is gone by now has committed, and can be seen.
            doubtful = self.engine.may_be_anothers(connection, fault)
            if write.was_overtaken():
                raise Conflict(str(fault)) from fault
            if doubtful:
                raise _Doubtful(fault) from fault
            if isinstance(fault, ChecksFailed) and len(write.scope.partitions) == 1:
                raise kept_instead(self.engine, connection, write, fault, request) from None
            raise
        except duckdb.Error as error:
            _roll_back(connection)
            raise self.engine.meaning(error) from error
        except OSError as error:
            _roll_back(connection)
            raise unavailable(self.identity, error) from error
        except BaseException as error:
            if is_interruption(error):
                connection.interrupt()
            _roll_back(connection)
            raise
        try:
            self.engine.commit(connection)
            faults.reach(f"{self.engine.name}.after_commit")
        except (duckdb.Error, OSError) as error:
            _roll_back(connection)
            return self._settled(records, error)
        return records

    def _begun(self, connection: duckdb.DuckDBPyConnection, write: TableWrite) -> list[Commit]:
        """A transaction with everything done but COMMIT."""
        connection.begin()
        self.engine.fence(connection, write.table, write.scope)
        self.engine.records(connection).prepare()
        return write.run(now())

    def _passed(
        self, connection: duckdb.DuckDBPyConnection, write: TableWrite, request: Request, records: list[Commit]
    ) -> list[Commit]:
        """The records of what was let pass, in a transaction that holds nothing else. Raises ChecksFailed, Conflict."""
        if not self._audit(connection, write, request):
            return records
        connection.rollback()  # What a check may have written, wherever that was, goes with it.
        faults.reach(f"{self.engine.name}.to_repeat")
        again = write.anew()
        records = self._begun(connection, again)
        again.refuse_other_than(write)
        return records

    def _audit(self, connection: duckdb.DuckDBPyConnection, write: TableWrite, request: Request) -> bool:
        """Show what is about to be committed to whoever has to let it pass. Raises ChecksFailed.

        Gives whether somebody who looked may have written, so that the transaction must not be committed.
        """
        if request.audit is None or not write.changed.partitions:
            return False
        before, inside = settings_of(connection), Inside(self.engine, connection)
        try:
            request.audit(write.changed, TableStore(inside, self.wait_seconds))
            refuse_spoilt(connection, write.table, write.changed)
        except BaseException:
            _roll_back(connection)  # In a transaction that is spoilt nothing can be set.
            with suppress(duckdb.Error):
                put_back(connection, before)
            raise
        put_back(connection, before)
        write.refuse_altered()
        faults.reach(f"{self.engine.name}.audited")
        return inside.has_to_repeat

    def _settled(self, records: list[Commit], error: Exception) -> list[Commit]:
        """An error came with COMMIT: the commit records say whether it happened; nothing is repeated blindly.

        Raises StoreUnavailable (retrying helps) where they cannot be asked either: it may have happened.
        """
        try:
            found = self.history(records[0].asset, records[0].partition)
        except (StoreUnavailable, StoreBusy) as unreachable:
            raise StoreUnavailable(
                f"Asset {records[0].asset!r}: the answer to COMMIT was lost, and {self.identity} cannot be asked "
                f"whether it happened ({unreachable}). The partitions have all old rows or all new ones; retrying "
                "helps: it changes nothing where they are the new ones."
            ) from None
        if records[0] in found:
            return records
        raise self.engine.meaning(error) from error

    def _one_by_one(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        scope: Scope,
        request: Request,
        reads: Sequence[Receipt],
        rows: Payload,
    ) -> list[Commit]:
        """Some day's data is at fault: one transaction each, so that the good ones are committed."""
        done: list[Commit] = []
        failures: dict[str | None, str] = {}
        for partition in scope.partitions:
            try:
                one = Scope((partition,))
                done += self._patiently(connection, table, one, request, reads, rows, restricted=True)
            except DataFault as fault:
                failures[partition.key] = str(fault)
        if not failures:
            return done
        raise PartlyCommitted(partly(table, scope, len(done), failures), done, failures)

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

    def _refuse_changed(self, connection: duckdb.DuckDBPyConnection, reads: Sequence[Receipt]) -> None:
        """What was read from here is looked up in this very transaction, what was read elsewhere is asked for there."""

        def lookup(read: Receipt) -> Lookup | None:
            here = isinstance(read.store, TableStore) and read.store.identity == self.identity
            return self.engine.records(connection).last if here else None

        refuse_changed(reads, lookup)

    def _refuse_foreign(self, table: Table, scope: Scope, data: Any) -> None:
        foreign = {p.database for p in payload.slices_of(data)} - {None, self.identity}
        if foreign:
            problem = f"the query reads {', '.join(sorted(map(str, foreign)))}, which is another database"
            raise WriteRefused(
                refused(
                    table, scope, [problem], "Take that input as a pyarrow table or batch reader instead of a Slice."
                )
            )


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    """After a failed COMMIT there is no transaction left to roll back."""
    with suppress(duckdb.Error):
        connection.rollback()


def unavailable(place: str, error: Exception) -> StoreUnavailable:
    """What to say when the machine, not the data, is at fault."""
    return StoreUnavailable(f"{place}: {error}. Nothing was changed; retrying helps once the cause is gone.")


def pauses() -> Iterator[float]:
    """Seconds to wait between tries, growing, without end."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.6, _LONGEST_PAUSE_SECONDS)
