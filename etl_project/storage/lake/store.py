"""The Parquet backend: one file a partition, in a folder or on an object store.

Belongs here: reading, and what surrounds a write (`write`). Where files lie and how one takes another's place is said
by `layout` (a folder) and `bucket` (an object store); counting, fingerprints and drift are the same code as for tables,
run by DuckDB over the Arrow data.

A file is replaced by one rename or one conditional PUT, so a range is atomic per partition, not as a whole: a kill in
the middle leaves some partitions old and some new, each of them whole, each with its own record. Files keep no
constraints; their columns follow the newest file of the asset (`evolve` adds and widens, every file holds all columns
known when it was written).
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etl_project.storage.contract import (
    EPOCH,
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
    StoreUnavailable,
    Table,
    Version,
    WriteRefused,
)
from etl_project.storage.fetch import arrow_reader
from etl_project.storage.judging import payload
from etl_project.storage.judging.findings import Finding, Looked
from etl_project.storage.judging.messages import more_memory, what
from etl_project.storage.judging.publishing import no_candidate, waits
from etl_project.storage.judging.receipts import refuse_changed
from etl_project.storage.judging.selection import check, chosen
from etl_project.storage.judging.versions import not_kept
from etl_project.storage.lake import address, footer, layout, mixed, plain
from etl_project.storage.lake.examine import examine
from etl_project.storage.lake.files import FILE, Files
from etl_project.storage.lake.parquet import file_columns, in_memory, parquet
from etl_project.storage.lake.showing import With
from etl_project.storage.lake.write import ParquetWrite, contract_key
from etl_project.storage.places import UnknownPlace, local_path
from etl_project.storage.sql import Binds, quote
from etl_project.storage.tables.store import TableStore


class ParquetStore:
    """Parquet files under one root, a folder or a prefix in a bucket; see `storage.contract`."""

    has_intervals = False

    def __init__(
        self,
        root: Path | str,
        wait_seconds: float = 60.0,
        cache: Path | None = None,
        memory_limit_mb: int | None = None,
    ) -> None:
        """`cache`: a folder for what makes `last_commits` fast; it may be deleted at any time. `memory_limit_mb`: what
        one write or read may hold at once; what exceeds it goes to a scratch folder under the root, or the cache.

        Nothing is opened. Raises UnknownPlace for a root that is neither a path nor the address of a bucket, and
        ExtraMissing for a bucket without the extra `s3`.
        """
        self.wait_seconds = wait_seconds
        self._memory_limit_mb = memory_limit_mb
        self._lake: Files
        if address.is_bucket(root):
            from etl_project.storage.lake.bucket import Bucket  # noqa: PLC0415  # Needs an extra.

            self._lake = Bucket(address.of(root), cache)
        else:
            self._lake = layout.Lake(local_path(root, "root", "data/lake or s3://bucket/prefix"), cache)

    def __str__(self) -> str:
        return str(self._lake)

    @property
    def root(self) -> Path:
        """The folder. Raises UnknownPlace for a lake in a bucket: it has none."""
        if not isinstance(self._lake, layout.Lake):
            raise UnknownPlace(f"{self}: a lake in a bucket has no folder. Retrying does not help.")
        return self._lake.root

    def replace(self, table: Table, scope: Scope, data: Any, request: Request) -> list[Commit]:
        """Make each partition's file hold exactly its rows of `data`; a partition changes in one step or not at all.

        Raises WriteRefused or PartlyCommitted (retrying does not help), StoreBusy, StoreUnavailable or InputChanged
        (it does). A kill leaves each partition old or new; the next write of a partition removes what it left.
        """
        check(table, scope)
        reads = (*request.reads, *(read for piece in payload.slices_of(data) for read in piece.reads))
        request = dataclasses.replace(request, reads=reads)
        try:
            self._lake.prepare()
            with self._scratch(data) as connection:
                several = len(scope.partitions) > 1
                with payload.scannable(connection, data, stage=several, stream=not several) as rows:
                    write = ParquetWrite(
                        self._lake, self.wait_seconds, connection, table, scope, request, rows, self._showing
                    )
                    return write.run()
        except (duckdb.OperationalError, OSError) as error:
            raise StoreUnavailable(
                f"{what(table, scope)}: {error}. Partitions that are not committed keep their old rows; retrying helps "
                f"once the cause is gone.{more_memory(str(error))}"
            ) from error
        except (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError) as error:
            raise WriteRefused(
                f"{what(table, scope)}: {error}. Partitions that are not committed keep their old rows; retrying does "
                "not help."
            ) from error

    def read(self, table: Table, scope: Scope, columns: Sequence[str] | None = None) -> Slice:
        """A lazy slice of exactly these partitions and columns; it runs in any DuckDB connection.

        Raises ReadRefused when the asset has no file at all or not that column (retrying does not help).
        """
        newest = self._lake.newest(table)
        if newest is None:
            raise ReadRefused(
                f"{what(table, scope)}: there is no file of it under {self}. Retrying does not help. "
                "Materialize the asset first."
            )
        paths = self._lake.local(table, [partition.key for partition in scope.partitions])
        heads = {key: footer.intact_head(path) for key, path in paths.items()}
        records = {key: record for key, (record, _) in heads.items()}
        files = [str(path) for key, path in paths.items() if records[key]]
        # Rows that say their columns themselves have those of the newest file.
        others = {} if table.columns_of_data else {paths[key]: schema for key, (_, schema) in heads.items()}
        newest_schema, frame = footer.columns_of(newest)
        schemas = [newest_schema, *others.values()] if others else []
        agree = mixed.agree(schemas)
        simple = plain.schema_of(schemas) if agree else None
        shown = simple if others else plain.schema_of([newest_schema])
        kinds = self._kinds(newest, others) if shown is None else plain.types(shown)
        names = chosen(kinds, columns, table, scope)
        binds = Binds()
        rows = f"SELECT * FROM {parquet(files, binds)}" if files else ""
        if not agree:
            there = {path: schema for path, schema in others.items() if len(schema)}
            with in_memory(self._lake.beside) as connection:
                binds = Binds()
                rows, kinds = mixed.select(connection, there, kinds, what(table, scope), binds)
        typed = ", ".join(f"NULL::{kinds[name]} AS {quote(name)}" for name in kinds)
        every = " UNION ALL BY NAME ".join([*([rows] if rows else []), f"SELECT {typed} WHERE false"])
        reads = tuple(
            Receipt(table.asset, key, found.fingerprint if found else None, self) for key, found in records.items()
        )
        select = f"SELECT {', '.join(map(quote, names))} FROM ({every})"
        made_as = MadeAs(table.asset, tuple(names), select, tuple(map(Path, files)), simple)
        return Slice(select, binds.values, None, reads, frame, made_as)

    def _kinds(self, newest: Path, others: Mapping[Path, pa.Schema]) -> dict[str, Any]:
        """The columns of the newest file with their types, and those that only `others` have.

        There are some where two writers added columns at the same time, and where a restore has brought files into
        another order: no value that is there is left out.
        """
        with in_memory(self._lake.beside) as connection:
            kinds = {column.name: column.type for column in file_columns(connection, newest)}
            known = {name.lower() for name in kinds}
            for file, schema in others.items():
                if not known.issuperset(map(str.lower, schema.names)):
                    more = [c for c in file_columns(connection, file) if c.name.lower() not in known]
                    kinds |= {column.name: column.type for column in more}
                    known |= {column.name.lower() for column in more}
        return kinds

    def arrow(self, piece: Slice) -> pa.Table:
        """The rows of a slice, in memory. Raises InputChanged when a file was replaced since (retrying helps)."""
        rows = plain.rows(piece)
        if rows is None:
            with self.batches(piece) as batches:
                return batches.read_all()
        refuse_changed(piece.reads)
        return rows

    @contextmanager
    def batches(self, piece: Slice) -> Iterator[pa.RecordBatchReader]:
        """The rows of a slice as a stream, for as long as the block lasts; its end checks that no file was replaced."""
        with in_memory(self._lake.beside, self._memory_limit_mb) as connection:
            try:
                # One that was not read to its end would keep the files open for as long as somebody has it.
                with closing(arrow_reader(connection.execute(piece.sql, dict(piece.params) or None))) as reader:
                    yield reader
            except (duckdb.Error, pa.ArrowException):
                refuse_changed(piece.reads)
                raise
            refuse_changed(piece.reads)

    def last_commits(
        self, assets: Iterable[str] | None = None, partitions: Collection[str | None] | None = None
    ) -> dict[tuple[str, str | None], Commit]:
        """The newest commit record of every (asset, partition), or of the given ones, from the files' footers."""
        return {(commit.asset, commit.partition): commit for commit in self._lake.records(assets, partitions)}

    def damaged(self, table: Table, keys: Collection[str | None] | None = None) -> dict[str | None, str]:
        """The partitions that have a file without a record that can be read, each with its path or address."""
        if keys is None:
            files: Iterable[tuple[str | None, Path]] = self._lake.footers(table.asset)
        else:
            files = self._lake.local(table, keys).items()
        found = [key for key, path in files if path.is_file() and footer.intact_record(path) is None]
        return {key: self._lake.shown(table, key) for key in found}

    def filled(self, table: Table) -> list[str]:
        """None: a file has no defaults."""
        return []

    def pinned(self, assets: Iterable[str]) -> list[Commit]:
        """The newest commits that brought files back."""
        return [commit for commit in self._lake.records(assets) if commit.restored is not None]

    def heads(self, assets: Iterable[str]) -> Iterator[tuple[str, str | None, Head]]:
        """The newest commit of every partition of these assets, in short."""
        for commit in self.last_commits(assets).values():
            elapsed_us = (commit.committed_at - EPOCH) // timedelta(microseconds=1)
            yield commit.asset, commit.partition, Head(commit.input_hash, commit.fingerprint, commit.rows, elapsed_us)

    def history(self, asset: str, partition: str | None) -> list[Commit]:
        """The commit records that the partition's file carries, oldest first: the last one and up to 20 before it."""
        return self._lake.history(asset, partition)

    def versions(self, table: Table, key: str | None) -> list[Version]:
        """The replaced files of a partition that are kept, oldest first."""
        head = footer.intact_record(self._lake.local(table, [key])[key])
        return self._lake.versions.of(table.asset, key, head)

    def read_version(self, table: Table, key: str | None, sequence: int) -> Slice:
        """A lazy slice of a kept file; it runs in any DuckDB connection. Raises ReadRefused where there is none."""
        kept = self._lake.versions.file(table.asset, key, sequence)
        if kept is None:
            raise not_kept(table, key, sequence)
        binds = Binds()
        return Slice(f"SELECT * FROM {parquet([str(kept)], binds)}", binds.values, None, (), footer.frame_of(kept))

    def candidates(self, assets: Iterable[str]) -> list[Candidate]:
        """The files that did not pass their checks. One that is no longer the next commit is left from a kill."""
        return [one for one, is_next in self._kept(assets) if is_next]

    def drop_left_candidates(self, assets: Mapping[str, bool], *, dry_run: bool = False) -> list[Commit]:
        """Remove candidates that wait for nothing, one by one; see `Store.drop_left_candidates`."""
        left = [one.record for one, is_next in self._kept(assets) if not (is_next and assets[one.record.asset])]
        for record in left if not dry_run else ():
            # Nobody is kept from writing meanwhile: a newer one stays.
            if any(one.record == record for one in self._lake.candidates.of(record.asset)):
                self._lake.candidates.drop(record.asset, record.partition)
        return left

    def _kept(self, assets: Iterable[str]) -> Iterator[tuple[Candidate, bool]]:
        """The candidates that there are, and whether each is still the next commit of its partition."""
        for asset in sorted(assets):
            some = self._lake.candidates.of(asset)
            heads = self.last_commits([asset], [one.record.partition for one in some]) if some else {}
            yield from ((one, waits(one, heads.get((asset, one.record.partition)))) for one in some)

    def read_candidate(self, table: Table, key: str | None) -> Slice:
        """A lazy slice of a candidate; it runs in any DuckDB connection. Raises ReadRefused where there is none."""
        there = any(one.record.partition == key for one in self.candidates([table.asset]))
        file = self._lake.candidates.file(table.asset, key) if there else None
        if file is None:
            raise ReadRefused(no_candidate(table, key))
        binds = Binds()
        return Slice(f"SELECT * FROM {parquet([str(file)], binds)}", binds.values, None, (), footer.frame_of(file))

    def _showing(self, table: Table, key: str | None, file: Path) -> ParquetStore:
        """This lake as it would be with another file in the place of a partition's."""
        shown = copy.copy(self)
        shown._lake = cast("Files", With(self._lake, table, key, file))
        return shown

    def examine(self, table: Table, partitions: Partitions) -> Looked:
        """Files against the records in their footers; see `Store.examine`. Nobody waits."""
        return examine(self._lake, table.asset, partitions)

    def unrecorded(self, table: Table, key: str | None) -> Finding:
        """A partition that was made and has no record: a file takes its record along when it goes."""
        told = "no file; Dagster has the partition as materialized"
        return Finding("missing", table.asset, key, self._lake.shown(table, key), told)

    def key(self, table: Table) -> list[str]:
        """The key that the contract gives a row; a file has none of its own."""
        return contract_key(table, self._lake.beside)

    def adopt(self, other: Store, table: Table, scope: Scope | None, *, records: bool = True) -> None:
        """Copy the files of partitions; their records are inside. Without a scope there is nothing to copy."""
        if not isinstance(other, ParquetStore):
            raise TypeError(f"{table.asset}: a store of files takes over from one of its kind, not from {other!r}")
        for partition in scope.partitions if scope is not None else ():
            with other._lake.copies(table.asset, [partition.key]) as files:
                for held in files.values():
                    target = layout.Lake(self.root).path(table, partition.key)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(held.path, target)

    def shuffle(self, turn: int) -> None:
        """Write every file anew with its rows in another order; what its footer says stays."""
        for file in sorted(self.root.rglob(FILE)):
            _shuffle(file, turn)

    def first_keys(self) -> list[str]:
        """The first partition of every asset, in the order of the keys: for days, the earliest one."""
        return list(self._lake.first_keys())

    def schemas(self, asset: str) -> Iterator[tuple[str | None, pa.Schema]]:
        """The columns of every file of the asset; damaged files are passed over."""
        for key, path in self._lake.footers(asset):
            schema = footer.schema_of(path)
            if schema is not None:
                yield key, schema

    @contextmanager
    def _scratch(self, data: Any) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB to work in; the database itself when the query reads from one. It spills to a scratch folder."""
        slices = [piece for piece in payload.slices_of(data) if piece.database is not None]
        databases = sorted({str(piece.database) for piece in slices})
        if len(databases) > 1:
            raise WriteRefused(f"A query reads from one database, this one from {databases}. Retrying does not help.")
        stores = [read.store for piece in slices for read in piece.reads if isinstance(read.store, TableStore)]
        if stores:
            with stores[0].connect() as connection:
                yield connection
        else:
            with in_memory(self._lake.beside, self._memory_limit_mb) as connection:
                yield connection


def _shuffle(file: Path, turn: int) -> None:
    kept = {name: value for name, value in (pq.read_metadata(file).metadata or {}).items() if name != b"ARROW:schema"}
    rows = pq.read_table(file, partitioning=None)
    order = np.arange(len(rows))[::-1] if turn == 1 else np.random.default_rng(turn).permutation(len(rows))
    pq.write_table(rows.take(order).replace_schema_metadata(kept), file)
