"""The DuckDB backend: tables and their commit records in one database file.

Belongs here: the transaction around a write, retries of conflicts, settling an unknown outcome, and reading. What goes
on inside the transaction is `duckdb_write`'s, opening the file is `duckdb_file`'s.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from etl_project import faults
from etl_project.storage.contract import (
    Commit,
    PartlyCommitted,
    ReadRefused,
    Receipt,
    Request,
    Scope,
    Slice,
    StoreBusy,
    Table,
    WriteRefused,
)
from etl_project.storage.engines.duckdb_file import DuckDBFile, pauses, unavailable
from etl_project.storage.judging import commits, payload
from etl_project.storage.judging.messages import DataFault, partly, refused, what
from etl_project.storage.judging.payload import Payload
from etl_project.storage.judging.placement import NoPartitionColumn, placing
from etl_project.storage.judging.receipts import Lookup, refuse_changed
from etl_project.storage.places import local_path
from etl_project.storage.sql import Binds, quote
from etl_project.storage.tables import owners
from etl_project.storage.tables.table import DuckDBTable
from etl_project.storage.tables.write import DuckDBWrite
from etl_project.utc import now

_DOUBTS = 8
"""How often a broken key is tried again while another connection is open: 1.3 seconds in all."""


class _Conflict(Exception):
    """Another connection touched what this transaction touches: it was rolled back, and may be tried again."""


class _Doubtful(Exception):
    """A key is broken, but perhaps by rows of a commit that is still under way."""

    def __init__(self, fault: DataFault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class DuckDBStore:
    """Tables in a DuckDB file; see the contract in `base`.

    A kill at any instruction leaves what the last COMMIT left: DuckDB replays or drops its log when the file is
    opened next. Raises StoreBusy after `wait_seconds` when another process holds the file (retrying helps).
    """

    def __init__(
        self, url: str | Path, wait_seconds: float = 60.0, settings: Mapping[str, str | int] | None = None
    ) -> None:
        """`url` is a path, with or without `duckdb:///` before it; `settings` are DuckDB's, set on every connection.

        Raises UnknownPlace for what is no path.
        """
        self.path = local_path(url, "url", "data/warehouse.duckdb")
        self.wait_seconds = wait_seconds
        self._file = DuckDBFile(self.path, settings or {})

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
        with self._file.looking(self.wait_seconds) as connection:
            there = DuckDBTable(connection, table) if connection is not None else None
            if connection is None or there is None or not there.exists():
                raise ReadRefused(
                    f"{what(table, scope)}: there is no table {table.name!r} in {self.path}. Retrying does not help. "
                    "Materialize the asset first."
                )
            owners.refuse_another(connection, table, there.schema)
            kinds = {column.name: column.type for column in there.columns()}
            names = chosen(kinds, columns, table, scope)
            binds = Binds()
            where = _where(kinds, table, scope, binds)
            select = f"SELECT {', '.join(map(quote, names))} FROM {there.name}{where}"
            frame = owners.frame_of(connection, there.schema, table.name)
            return Slice(select, binds.values, str(self.path), self._receipts(connection, table, scope), frame)

    def arrow(self, piece: Slice) -> pa.Table:
        """The rows of a slice, in memory. Raises InputChanged when they were rewritten since (retrying helps)."""
        with self._snapshot(piece) as connection:
            return connection.execute(piece.sql, dict(piece.params) or None).to_arrow_table()

    @contextmanager
    def batches(self, piece: Slice) -> Iterator[pa.RecordBatchReader]:
        """The rows of a slice as a stream. The file stays open for as long as the block lasts."""
        with self.connect() as connection:
            connection.begin()
            self._refuse_changed(connection, piece.reads)
            yield connection.execute(piece.sql, dict(piece.params) or None).to_arrow_reader()

    def last_commits(
        self,
        assets: Iterable[str] | None = None,
        partitions: Collection[str | None] | None = None,
    ) -> dict[tuple[str, str | None], Commit]:
        """The newest commit record of every (asset, partition), or of the given ones.

        One short read-only open. Raises StoreBusy when another process holds the file for longer than the store's
        `wait_seconds` (retrying helps); a store made with 0 says so at once.
        """
        with self._file.looking(self.wait_seconds) as connection:
            if connection is None or not commits.exists(connection):
                return {}
            return commits.last(connection, assets, partitions)

    def history(self, asset: str, partition: str | None) -> list[Commit]:
        """All commit records of one partition, oldest first."""
        with self._file.looking(self.wait_seconds) as connection:
            if connection is None or not commits.exists(connection):
                return []
            return commits.history(connection, asset, partition)

    @contextmanager
    def look(self) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """A connection for a look, in one transaction; None when there is no file yet. Other processes wait meanwhile.

        Raises StoreBusy (retrying helps) when another process holds the file for longer than `wait_seconds`.
        """
        with self._file.looking(self.wait_seconds) as connection:
            if connection is not None:
                connection.begin()
            yield connection

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write, closed when the block ends, however it ends. Sessions are in UTC."""
        with self._file.writing(self.wait_seconds) as connection:
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
                return self._once(
                    connection, DuckDBWrite(connection, table, scope, request, rows, restricted), request, reads
                )
            except _Doubtful as doubt:
                doubts -= 1
                if doubts < 0:
                    raise doubt.fault from doubt.fault.__cause__
                time.sleep(pause)
            except _Conflict as conflict:
                if time.monotonic() + pause > deadline:
                    raise StoreBusy(
                        f"{what(table, scope)}: other writers of {self.path} were in the way for "
                        f"{self.wait_seconds:g} s ({conflict}). Nothing was changed; retrying helps."
                    ) from conflict
                time.sleep(pause)
        raise AssertionError("the pauses never end")

    def _once(
        self,
        connection: duckdb.DuckDBPyConnection,
        write: DuckDBWrite,
        request: Request,
        reads: Sequence[Receipt],
    ) -> list[Commit]:
        """One transaction. Whatever goes wrong before COMMIT rolls it back."""
        try:
            connection.begin()
            commits.prepare(connection)
            records = write.run(now())
            self._refuse_changed(connection, reads)
            request.still_owner()
            faults.reach("duckdb.before_commit")
        except DataFault as fault:
            _roll_back(connection)
            doubtful = _may_be_anothers_fault(connection, fault)  # Asked first: whoever is gone by now can be seen.
            if write.was_overtaken():
                raise _Conflict(str(fault)) from fault
            if doubtful:
                raise _Doubtful(fault) from fault
            raise
        except duckdb.Error as error:
            _roll_back(connection)
            raise self._explained(error) from error
        except OSError as error:
            _roll_back(connection)
            raise unavailable(self.path, error) from error
        except BaseException:
            _roll_back(connection)
            raise
        try:
            self._commit(connection)
            faults.reach("duckdb.after_commit")
        except (duckdb.Error, OSError) as error:
            _roll_back(connection)
            return self._settled(records, error)
        return records

    def _commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Send COMMIT. Its answer may be lost; the records say what became of it."""
        connection.commit()

    def _settled(self, records: list[Commit], error: Exception) -> list[Commit]:
        """An error came with COMMIT: the commit records say whether it happened; nothing is repeated blindly."""
        with self.connect() as connection:
            found = (
                commits.history(connection, records[0].asset, records[0].partition)
                if commits.exists(connection)
                else []
            )
        if records[0] in found:
            return records
        raise self._explained(error) from error

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
        with self._file.looking(self.wait_seconds) as connection:
            if connection is None:
                raise ReadRefused(f"{self.path} does not exist. Retrying does not help. Materialize the asset first.")
            connection.begin()
            self._refuse_changed(connection, piece.reads)
            yield connection

    def _receipts(self, connection: duckdb.DuckDBPyConnection, table: Table, scope: Scope) -> tuple[Receipt, ...]:
        keys = [partition.key for partition in scope.partitions]
        found = commits.last(connection, [table.asset], keys) if commits.exists(connection) else {}
        prints = {key: found[table.asset, key].fingerprint for key in keys if (table.asset, key) in found}
        return tuple(Receipt(table.asset, key, prints.get(key), self) for key in keys)

    def _refuse_changed(self, connection: duckdb.DuckDBPyConnection, reads: Sequence[Receipt]) -> None:
        """What was read from here is looked up in this very transaction, what was read elsewhere is asked for there."""

        def here(assets: Iterable[str], keys: Collection[str | None]) -> Mapping[tuple[str, str | None], Commit]:
            return commits.last(connection, assets, keys) if commits.exists(connection) else {}

        def lookup(read: Receipt) -> Lookup | None:
            return here if isinstance(read.store, DuckDBStore) and read.store.path == self.path else None

        refuse_changed(reads, lookup)

    def _refuse_foreign(self, table: Table, scope: Scope, data: Any) -> None:
        foreign = {p.database for p in payload.slices_of(data)} - {None, str(self.path)}
        if foreign:
            problem = f"the query reads {', '.join(sorted(map(str, foreign)))}, which is another database"
            raise WriteRefused(
                refused(
                    table, scope, [problem], "Take that input as a pyarrow table or batch reader instead of a Slice."
                )
            )

    def _explained(self, error: Exception) -> Exception:
        """What a database error means to the caller."""
        text = str(error)
        claimed = isinstance(error, duckdb.ConstraintException) and "sequence:" in text
        if isinstance(error, duckdb.TransactionException) or claimed:
            return _Conflict(text)
        if isinstance(error, duckdb.ConstraintException) and "still referenced by a foreign key" in text:
            return WriteRefused(
                f"{self.path}: {text}. Nothing was changed; retrying does not help: DuckDB does not replace rows that "
                "others refer to. Make the other table anew without its FOREIGN KEY, also in its contract."
            )
        if isinstance(
            error, duckdb.ProgrammingError | duckdb.DataError | duckdb.NotSupportedError | duckdb.IntegrityError
        ):
            return WriteRefused(f"{self.path}: {text}. Nothing was changed; retrying does not help.")
        return unavailable(self.path, error)


def check(table: Table, scope: Scope) -> None:
    """Refuse a scope that no table can have. Raises WriteRefused (retrying does not help)."""
    keys = [partition.key for partition in scope.partitions]
    if not keys or "" in keys or (None in keys and len(keys) > 1) or len(set(keys)) < len(keys):
        raise WriteRefused(f"Asset {table.asset!r}: {keys[:5]!r} is no set of partitions. Retrying does not help.")
    if keys != [None] and not table.partition_columns:
        raise WriteRefused(
            f"{what(table, scope)}: a partitioned asset needs a partition column. Retrying does not help. "
            "Set its metadata 'partition_column'."
        )


def chosen(kinds: Mapping[str, Any], columns: Sequence[str] | None, table: Table, scope: Scope) -> list[str]:
    """The columns asked for, as the table spells them."""
    spelled = {name.lower(): name for name in kinds}
    if columns is None:
        return list(kinds)
    missing = [name for name in columns if name.lower() not in spelled]
    if missing:
        raise ReadRefused(
            f"{what(table, scope)}: there are no columns {', '.join(map(repr, missing))}; there are "
            f"{', '.join(map(repr, kinds))}. Retrying does not help."
        )
    return [spelled[name.lower()] for name in columns]


def _where(kinds: Mapping[str, Any], table: Table, scope: Scope, binds: Binds) -> str:
    if not scope.partitions:
        return " WHERE false"
    if scope.partitions[0].key is None:
        return ""
    try:
        value, placement = placing(table, scope, ((name, quote(name), kind) for name, kind in kinds.items()))
    except NoPartitionColumn as error:
        raise ReadRefused(
            f"{what(table, scope)}: the table has no partition column {error.args[0]}; its columns are "
            f"{', '.join(map(repr, kinds))}. Retrying does not help."
        ) from error
    return f" WHERE {placement.within(value, binds)}"


def _may_be_anothers_fault(connection: duckdb.DuckDBPyConnection, fault: DataFault) -> bool:
    """Whether the rows that broke a key may be those of a commit that is under way in this process.

    They are in the index a moment before anybody can see them. Other processes are shut out of the file.
    """
    if not isinstance(fault.__cause__, duckdb.IntegrityError):
        return False
    return bool(connection.execute("SELECT count > 1 FROM duckdb_connection_count()").fetchall()[0][0])


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    """After a failed COMMIT there is no transaction left to roll back."""
    with suppress(duckdb.Error):
        connection.rollback()
