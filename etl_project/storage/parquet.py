"""The Parquet backend: one file a partition, in a folder.

Belongs here: the order of the steps of a write and of a read. Paths, footers and the lock of a partition are `lake`'s;
counting, fingerprints and drift are the same code as for tables, run by DuckDB over the Arrow data.

A file is replaced by one rename, so a range is atomic per partition, not as a whole: a kill in the middle leaves some
partitions old and some new, each of them whole, each with its own record. Files keep no constraints; their columns
follow the newest file of the asset (`evolve` adds and widens, every file holds all columns known when it was written).
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from etl_project.partitions import now
from etl_project.storage import atomic, drift, lake, payload, survey, verdict
from etl_project.storage.base import (
    Commit,
    PartlyCommitted,
    ReadRefused,
    Receipt,
    Request,
    Scope,
    Slice,
    StoreUnavailable,
    Table,
    WriteRefused,
)
from etl_project.storage.drift import Column, Pair
from etl_project.storage.duckdb import DuckDBStore, check, chosen
from etl_project.storage.duckdb_table import DuckDBTable
from etl_project.storage.fingerprint import Typed
from etl_project.storage.payload import Payload
from etl_project.storage.placement import column_type_for
from etl_project.storage.receipts import refuse_changed
from etl_project.storage.refusal import DataFault, partly, refused, what
from etl_project.storage.sql import Binds, quote, text
from etl_project.storage.survey import EMPTY, Difference, Rows, Tally
from etl_project.storage.verdict import Finding


class ParquetStore:
    """Parquet files under one folder; see the contract in `base`."""

    def __init__(self, root: Path | str, wait_seconds: float = 60.0) -> None:
        self.root = Path(root).absolute()
        self.wait_seconds = wait_seconds
        self._lake = lake.Lake(self.root)

    def replace(self, table: Table, scope: Scope, data: Any, request: Request) -> list[Commit]:
        """Make each partition's file hold exactly its rows of `data`; a partition changes in one rename or not at all.

        Raises WriteRefused or PartlyCommitted (retrying does not help), StoreBusy, StoreUnavailable or InputChanged
        (it does). A kill leaves each partition old or new; the next write of a partition removes what it left.
        """
        check(table, scope)
        reads = [*request.reads, *(read for piece in payload.slices_of(data) for read in piece.reads)]
        try:
            with self._scratch(data) as connection:
                several = len(scope.partitions) > 1
                with payload.scannable(connection, data, stage=several) as rows:
                    refuse_changed(reads)
                    return _ParquetWrite(self, self._lake, connection, table, scope, request, rows).run()
        except (duckdb.OperationalError, OSError) as error:
            raise StoreUnavailable(
                f"{what(table, scope)}: {error}. Partitions that are not committed keep their old rows; retrying helps "
                "once the cause is gone."
            ) from error

    def read(self, table: Table, scope: Scope, columns: Sequence[str] | None = None) -> Slice:
        """A lazy slice of exactly these partitions and columns; it runs in any DuckDB connection.

        Raises ReadRefused when the asset has no file at all or not that column (retrying does not help).
        """
        newest = self._lake.newest(table)
        if newest is None:
            raise ReadRefused(
                f"{what(table, scope)}: there is no file of it under {self.root}. Retrying does not help. "
                "Materialize the asset first."
            )
        with _in_memory() as connection:
            kinds = {column.name: column.type for column in file_columns(connection, newest)}
        names = chosen(kinds, columns, table, scope)
        binds = Binds()
        paths = {p.key: self._lake.path(table, p.key) for p in scope.partitions}
        records = {key: lake.history(path) for key, path in paths.items()}
        files = [str(path) for key, path in paths.items() if records[key]]
        typed = ", ".join(f"NULL::{kinds[name]} AS {quote(name)}" for name in kinds)
        every = f"SELECT {typed} WHERE false"
        if files:
            every = f"SELECT * FROM {parquet(files, binds)} UNION ALL BY NAME {every}"
        reads = tuple(
            Receipt(table.asset, key, found[-1].fingerprint if found else None, self) for key, found in records.items()
        )
        return Slice(f"SELECT {', '.join(map(quote, names))} FROM ({every})", binds.values, None, reads)

    def arrow(self, piece: Slice) -> pa.Table:
        """The rows of a slice, in memory. Raises InputChanged when a file was replaced since (retrying helps)."""
        with self.batches(piece) as batches:
            return batches.read_all()

    @contextmanager
    def batches(self, piece: Slice) -> Iterator[pa.RecordBatchReader]:
        """The rows of a slice as a stream, for as long as the block lasts; its end checks that no file was replaced."""
        with _in_memory() as connection:
            try:
                yield pa.RecordBatchReader.from_stream(connection.sql(piece.sql, params=dict(piece.params) or None))
            except (duckdb.Error, pa.ArrowException):
                refuse_changed(piece.reads)
                raise
            refuse_changed(piece.reads)

    def last_commits(
        self, assets: Iterable[str] | None = None, partitions: Collection[str | None] | None = None
    ) -> dict[tuple[str, str | None], Commit]:
        """The newest commit record of every (asset, partition), or of the given ones, from the files' footers."""
        return {(commit.asset, commit.partition): commit for commit in self._lake.records(assets, partitions)}

    def history(self, asset: str, partition: str | None) -> list[Commit]:
        """The commit records that the partition's file carries, oldest first: the last one and up to 20 before it."""
        for path in self._lake.paths_of(asset):
            found = lake.history(path)
            if found and found[-1].partition == partition:
                return found
        return []

    @contextmanager
    def _scratch(self, data: Any) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB to work in; the database itself when the query reads from one. It spills to a temporary folder."""
        databases = sorted({piece.database for piece in payload.slices_of(data) if piece.database is not None})
        if len(databases) > 1:
            raise WriteRefused(f"A query reads from one database, this one from {databases}. Retrying does not help.")
        if databases:
            with DuckDBStore(databases[0], self.wait_seconds).connect() as connection:
                yield connection
        else:
            with _in_memory() as connection:
                yield connection


class _ParquetWrite:
    """One write: everything is found out about all rows first, then the partitions are replaced one by one."""

    def __init__(
        self,
        store: ParquetStore,
        files: lake.Lake,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        scope: Scope,
        request: Request,
        rows: Payload,
    ) -> None:
        self._store = store
        self._lake = files
        self._connection = connection
        self._table = table
        self._scope = scope
        self._request = request
        self._payload = rows
        self._column = None if scope.partitions[0].key is None else table.partition_column
        self._schema_changes: tuple[str, ...] = ()

    def run(self) -> list[Commit]:
        """Replace every partition whose data is sound; PartlyCommitted names the others."""
        targets, pairs = self._matched()
        pairs, found = self._fitted(pairs)
        incoming = self._incoming(pairs)
        if None in found:
            problems = survey.outside(self._connection, incoming, str(self._column))
            raise WriteRefused(refused(self._table, self._scope, problems, "Deliver only rows of these partitions."))
        done: list[Commit] = []
        failures: dict[str | None, str] = {}
        for n, partition in enumerate(self._scope.partitions):
            try:
                self._refuse_lost(n, found, pairs, incoming)
                done.append(self._replace_one(n, found.get(n, EMPTY), targets, pairs, incoming))
            except DataFault as fault:
                if len(self._scope.partitions) == 1:
                    raise
                failures[partition.key] = str(fault)
        if failures:
            raise PartlyCommitted(partly(self._table, self._scope, len(done), failures), done, failures)
        return done

    def _matched(self) -> tuple[list[Column], list[Pair]]:
        """All columns of the new files, and which of them come in; every refused difference at once."""
        reference = self._reference()
        known = reference if reference is not None else self._from_data()
        plan = drift.plan(known, self._payload.columns, self._table.drift, self._column)
        if plan.problems:
            raise WriteRefused(refused(self._table, self._scope, plan.problems, "Deliver what the files hold."))
        if reference is None:
            self._schema_changes = ("files created",)
        targets = [*known, *as_stored(plan.added)]
        self._schema_changes += tuple(f"column {c.name!r} added as {c.type}" for c in targets[len(known) :])
        return targets, list(drift.plan(targets, self._payload.columns, "evolve", self._column).pairs)

    def _reference(self) -> list[Column] | None:
        """The columns that all files have so far, or that the contract wants."""
        newest = self._lake.newest(self._table)
        if newest is not None:
            return file_columns(self._connection, newest)
        if self._table.contract_sql is None:
            return None
        with _in_memory() as scratch:
            made = DuckDBTable(scratch, self._table)
            made.prepare(self._scope, self._payload.columns)
            return as_stored(made.columns())

    def _from_data(self) -> list[Column]:
        columns = []
        for column in self._payload.columns:
            if not column.untyped:
                columns.append(column)
            elif self._column is not None and column.name.lower() == self._column.lower():
                columns.append(Column(column.name, duckdb.sqltype(column_type_for(self._scope))))
        if not columns:
            problem = "the data has no column with a type"
            raise WriteRefused(refused(self._table, self._scope, [problem], "Give the columns their types."))
        return as_stored(columns)

    def _incoming(self, pairs: Sequence[Pair]) -> Rows:
        columns = [survey.stored_as(pair) for pair in pairs]
        return verdict.placed(quote(self._payload.name), columns, self._table, self._scope)

    def _fitted(self, pairs: list[Pair]) -> tuple[list[Pair], dict[int | None, Tally]]:
        """Widen the columns whose values do not fit, where the policy allows it, and count again."""
        checked = [pair for pair in pairs if pair.checked]
        found = survey.tally(self._connection, self._incoming(pairs), checked)
        lost = [p for n, p in enumerate(checked) if any(t.lost[n] for where, t in found.items() if where is not None)]
        if self._table.drift == "freeze" or not any(pair.wider for pair in lost):
            return pairs, found
        wider = {p.source: as_stored([p.target._replace(type=duckdb.sqltype(p.wider))])[0] for p in lost if p.wider}
        self._schema_changes += tuple(f"column {c.name!r} widened to {c.type}" for c in wider.values())
        return self._fitted([p.into(wider[p.source]) if p.source in wider else p for p in pairs])

    def _refuse_lost(self, n: int, found: dict[int | None, Tally], pairs: Sequence[Pair], incoming: Rows) -> None:
        checked = [pair for pair in pairs if pair.checked]
        counts = found[n].lost if n in found else ()
        here = incoming._replace(only=(n,))
        problems = [
            survey.lost_values(self._connection, here, pair)
            for pair, count in zip(checked, counts, strict=False)
            if count
        ]
        if problems:
            advice = "Deliver values that the column can hold."
            raise DataFault(refused(self._table, Scope((self._scope.partitions[n],)), problems, advice))

    def _replace_one(
        self, n: int, new: Tally, targets: Sequence[Column], pairs: Sequence[Pair], incoming: Rows
    ) -> Commit:
        """One partition, alone in its folder: look at what is there, judge, write, rename."""
        one = Scope((self._scope.partitions[n],))
        path = self._lake.path(self._table, one.partitions[0].key)
        with lake.turn(path.parent, self._store.wait_seconds, what(self._table, one)):
            earlier = lake.history(path)
            previous = earlier[-1] if earlier else None
            there = self._there(path, one) if previous is not None else None
            old = survey.tally(self._connection, there).get(0, EMPTY) if there is not None else EMPTY
            changed = previous is None or old.fingerprint != new.fingerprint
            if changed:
                verdict.refuse_shrinking(self._table, one, self._request, {0: old.rows}, {0: new})
            difference = verdict.plain_difference(old.rows, new.rows, changed)
            if difference is None and there is not None and max(old.rows, new.rows) <= verdict.COMPARED_ROWS:
                difference = self._difference(there, incoming, n)
            finding = Finding(previous, old.rows, new, difference)
            record = verdict.record(self._table, one.partitions[0], self._request, finding, now(), self._schema_changes)
            if previous is not None and not changed and _says_the_same(record, previous):
                self._request.still_owner()
                return replace(previous, changed=False)
            return self._written(path, record, earlier, self._select(n, targets, pairs, incoming))

    def _there(self, path: Path, one: Scope) -> Rows:
        relation = f"read_parquet([{text(escaped(path))}], hive_partitioning=false)"
        columns = [Typed(c.name, quote(c.name), c.type) for c in file_columns(self._connection, path)]
        return verdict.placed(relation, columns, self._table, one)

    def _difference(self, there: Rows, incoming: Rows, n: int) -> Difference | None:
        old = there._replace(placement=incoming.placement, only=(n,))
        new = incoming._replace(only=(n,))
        return survey.difference(self._connection, old, new).get(n)

    def _select(
        self, n: int, targets: Sequence[Column], pairs: Sequence[Pair], incoming: Rows
    ) -> tuple[str, dict[str, Any]]:
        """The partition's rows with all columns of the file, those that do not come as NULL."""
        binds = Binds()
        values = {pair.target.name: survey.stored_as(pair) for pair in pairs}
        missing = {c.name: Typed(c.name, f"NULL::{c.type}", c.type) for c in targets if c.name not in values}
        columns = [(values | missing)[c.name] for c in targets]
        select = ", ".join(f"{c.value} AS {quote(c.name)}" for c in columns)
        return f"SELECT {select} FROM {incoming.relation} {incoming._replace(only=(n,)).where(binds)}", binds.values

    def _written(
        self, path: Path, record: Commit, earlier: Sequence[Commit], select: tuple[str, dict[str, Any]]
    ) -> Commit:
        """One rename. An error after it is settled by what the file says."""
        try:
            with atomic.replacing(path, "parquet") as temporary:
                statement, values = select
                rows = self._connection.sql(statement, params=values or None)
                lake.write(temporary, pa.RecordBatchReader.from_stream(rows), record, earlier)
                self._request.still_owner()
        except OSError:
            if lake.history(path)[-1:] != [record]:
                raise
        return record


def parquet(files: Sequence[str], binds: Binds) -> str:
    """A table function over exactly these files, whatever characters their names hold."""
    return f"read_parquet({binds.add([escaped(Path(f)) for f in files])}, union_by_name=true, hive_partitioning=false)"


def escaped(path: Path) -> str:
    """The path as a pattern that matches only itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path))


def file_columns(connection: duckdb.DuckDBPyConnection, path: Path) -> list[Column]:
    """The columns of a file with the types that DuckDB reads them as."""
    relation = connection.sql(f"SELECT * FROM read_parquet([{text(escaped(path))}], hive_partitioning=false)")
    return [Column(name, kind) for name, kind in zip(relation.columns, relation.types, strict=True)]


def as_stored(columns: Sequence[Column]) -> list[Column]:
    """The columns with the types that they have once they were written to a file and read again."""
    if not columns:
        return []
    with _in_memory() as connection, tempfile.TemporaryDirectory(prefix="etl-") as folder:
        path = Path(folder) / "types.parquet"
        select = ", ".join(f"NULL::{_writable(c)} AS {quote(c.name)}" for c in columns)
        pq.write_table(pa.table(connection.sql(f"SELECT {select} WHERE false")), path)
        types = {c.name: c.type for c in file_columns(connection, path)}
    return [column._replace(type=types[column.name]) for column in columns]


def _writable(column: Column) -> str:
    return "VARCHAR" if column.type.id in ("enum", "uuid") else str(column.type)


@contextmanager
def _in_memory() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of our own that spills to a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="etl-duckdb-") as folder, closing(duckdb.connect()) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET temp_directory = {text(folder)}")
        yield connection


def _says_the_same(record: Commit, previous: Commit) -> bool:
    """Whether writing the file again would say nothing new."""
    return (record.input_hash, record.code_version, record.fingerprint) == (
        previous.input_hash,
        previous.code_version,
        previous.fingerprint,
    )
