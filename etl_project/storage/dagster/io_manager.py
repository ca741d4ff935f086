"""IO managers: the storage contract for any Dagster project, as a thin adapter.

Belongs here: what a Dagster context says, in the words of a store, and what a store says, in the words of Dagster. No
decision about data is made here.

    from etl_project.storage import DuckDBPartitionIOManager
    Definitions(assets=[...], resources={"io_manager": DuckDBPartitionIOManager(url="warehouse.duckdb")})
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
from dagster import DagsterEvent
from pydantic import Field, field_validator

from etl_project.failures import EtlError
from etl_project.storage.contract import (
    Commit,
    InputChanged,
    Partial,
    PartlyCommitted,
    ReadRefused,
    Receipt,
    Request,
    Scope,
    Slice,
    Store,
    Table,
)
from etl_project.storage.dagster import conversions, events, own_rows, preview
from etl_project.storage.dagster.lineage import parents_of, reads_all
from etl_project.storage.dagster.partition_lock import PartitionLock
from etl_project.storage.dagster.reporting import as_failure, tag_run
from etl_project.storage.dagster.places import UnknownPlace, local_path
from etl_project.storage.dagster.scopes import scope_of, table_of
from etl_project.storage.judging.messages import missing_partitions
from etl_project.storage.judging.receipts import (
    fingerprint_at,
    note_config,
    receipts_of,
    refuse_changed,
    refuse_missing,
)
from etl_project.storage.lake.store import ParquetStore
from etl_project.storage.tables.store import DuckDBStore

ALLOW_SHRINK_TAG = "etl/allow_shrink"
"""Run tag: `true` lets this run shrink partitions by more than their table's `max_removed_ratio`."""

ABSENT_PARTITIONS = "absent_partitions"
"""Input metadata: `allowed` lets some of the partitions that an input maps to not exist (yet): they may still come.
They are no part of the input hash, so that it changes when they do."""

_TRIES = 3


class PartitionIOManager(dg.ConfigurableIOManager):
    """Replaces exactly the partitions of the run and reads exactly those that an input maps to."""

    run_lock: PartitionLock | None = Field(
        default=None, description="Keeps two runs off one partition; without it the store alone decides who wins."
    )

    preview_rows: int = Field(
        default=5,
        ge=0,
        description="Rows of each partition shown in the UI; 0 shows none. Asset metadata `preview_rows` wins.",
    )

    @abstractmethod
    def store(self) -> Store:
        """The store behind this IO manager."""

    def default_schema(self) -> str | None:
        """The schema of tables whose asset names none."""
        return None

    def handle_output(  # type: ignore[override]  # Dagster takes the events of a generator
        self, context: dg.OutputContext, obj: Any
    ) -> Iterator[DagsterEvent]:
        """Make the run's partitions hold exactly `obj`; see `Store.replace` for what is refused.

        Partitions of a range that are committed although others are at fault are reported as materialized, and so
        are those that a `Partial` has data for.
        """
        try:
            table, scope = self._target(context)
            commits = self._replaced(context, table, scope, obj)
        except PartlyCommitted as error:
            yield from events.materialized(context, error.commits, self._previews(context, table, scope, error.commits))
            raise _failure(context, error) from error
        except EtlError as error:
            raise _failure(context, error) from error
        previews = self._previews(context, table, scope, commits)
        if len(commits) == 1:
            events.describe(context, commits[0], previews)
        else:
            yield from events.materialized(context, commits, previews)
            events.no_more_events(context)

    def load_input(self, context: dg.InputContext) -> Any:
        """The partitions that the input maps to, as the type that the parameter is annotated with.

        pandas (Arrow-backed: every value as stored), pyarrow Table or RecordBatchReader, polars, or a lazy Slice.
        Input metadata `columns` limits the columns. A partition that was never committed is refused, unless the input
        says `absent_partitions: allowed`.
        """
        may_be_absent = context.definition_metadata.get(ABSENT_PARTITIONS) == "allowed"
        try:
            table, scope = self._source(context)
            starts = own_rows.is_own(context) and own_rows.starts_here(context, self.store(), table)
            may_be_absent = may_be_absent or starts or reads_all(context.step_context, context.asset_key)
            piece, rows = self._first(context, table, scope) if starts else self._read(context, table, scope)
            if not may_be_absent:
                refuse_missing(piece.reads, self.store())
        except EtlError as error:
            raise _failure(context, error) from error
        book = receipts_of(context.step_context)
        if may_be_absent:
            book.may_be_absent(table.asset)
        for read in piece.reads:
            if not may_be_absent or read.fingerprint is not None:
                book.add(read.asset, read.partition, read.fingerprint)
        return rows

    def _read(self, context: dg.InputContext, table: Table, scope: Scope) -> tuple[Slice, Any]:
        """The rows and what they are; once more when they were rewritten between being named and being read."""
        store, columns = self.store(), context.definition_metadata.get("columns")
        for _ in range(_TRIES - 1):
            with suppress(InputChanged):
                piece = store.read(table, scope, columns)
                return piece, conversions.as_annotated(store, piece, context.dagster_type.typing_type)
        piece = store.read(table, scope, columns)
        return piece, conversions.as_annotated(store, piece, context.dagster_type.typing_type)

    def _first(self, context: dg.InputContext, table: Table, scope: Scope) -> tuple[Slice, Any]:
        """What the first partition of an asset reads of the asset itself: nothing, be there a table or not."""
        try:
            piece, rows = self._read(context, table, scope)
        except ReadRefused:
            piece, there = own_rows.no_rows(table), ParquetStore(Path())
            rows = conversions.as_annotated(there, piece, context.dagster_type.typing_type)
        return piece, own_rows.any_column(rows)

    def _replaced(self, context: dg.OutputContext, table: Table, scope: Scope, obj: Any) -> list[Commit]:
        """Replace the partitions that there is data for. Raises PartlyCommitted when others are missing."""
        missing = obj.missing if isinstance(obj, Partial) else {}
        data = obj.data if isinstance(obj, Partial) else obj
        given = Scope(tuple(partition for partition in scope.partitions if partition.key not in missing))
        request = self._request(context, table, given)
        commits = self.store().replace(table, given, data, request) if given.partitions else []
        if missing:
            raise PartlyCommitted(missing_partitions(table, len(commits), missing), commits, missing)
        return commits

    def _previews(
        self, context: dg.OutputContext, table: Table, scope: Scope, commits: Sequence[Commit]
    ) -> dict[str | None, str]:
        """What the UI shows of the committed rows. It is looked up after the commit, so it cannot fail the step."""
        count = preview.wanted(context.definition_metadata, self.preview_rows)
        there = {commit.partition for commit in commits if commit.rows}
        if not count or not there:
            return {}
        try:
            written = Scope(tuple(partition for partition in scope.partitions if partition.key in there))
            return preview.previews(self.store(), table, written, count)
        except (EtlError, duckdb.Error, pa.ArrowException, OSError, KeyError) as error:
            context.log.warning(f"Committed, but its rows cannot be shown: {error}")
            return {}

    def _still_owner(self, table: Table, keys: Sequence[str | None]) -> Callable[[], None]:
        """What the store calls right before each commit; it raises when the run has lost its lock.

        A run takes and loses its partitions together, so one of them tells for all.
        """
        lock = self.run_lock
        return (lambda: None) if lock is None else partial(lock.check, table.asset, keys[:1])

    def _target(self, context: dg.OutputContext) -> tuple[Table, Scope]:
        partitions = context.asset_partitions_def if context.has_asset_partitions else None
        keys = context.asset_partition_keys if context.has_asset_partitions else []
        _warn_of_places(context)
        return (
            table_of(context.asset_key, context.definition_metadata, self.default_schema()),
            scope_of(context.asset_key, partitions, keys),
        )

    def _source(self, context: dg.InputContext) -> tuple[Table, Scope]:
        partitions = context.asset_partitions_def if context.has_asset_partitions else None
        keys = context.asset_partition_keys if context.has_asset_partitions else []
        upstream = context.upstream_output
        metadata = upstream.definition_metadata if upstream is not None else {}
        return (
            table_of(context.asset_key, metadata, self.default_schema()),
            scope_of(context.asset_key, partitions, keys),
        )

    def _request(self, context: dg.OutputContext, table: Table, scope: Scope) -> Request:
        step = context.step_context
        book = receipts_of(step)
        keys = [partition.key for partition in scope.partitions]
        parents = parents_of(step, context.asset_key, keys)
        reads = _note_unread(step, self.store(), parents)
        note_config(step)
        return Request(
            run_id=step.run_id,
            code_version=step.job_def.asset_layer.get(context.asset_key).code_version,
            input_hashes=book.input_hashes(parents),
            allow_shrink=step.dagster_run.tags.get(ALLOW_SHRINK_TAG, "").lower() == "true",
            reads=reads,
            still_owner=self._still_owner(table, keys),
        )


class DuckDBPartitionIOManager(PartitionIOManager):
    """Tables in a DuckDB file: one transaction a write, constraints kept, commit records inside."""

    url: str = Field(description="Path of the DuckDB file, with or without `duckdb:///` before it.")
    schema_: str | None = Field(default=None, alias="schema", description="Schema of the tables; `main` by default.")
    wait_seconds: float = Field(default=60.0, description="How long to wait for another process that holds the file.")
    memory_limit_mb: int | None = Field(default=None, description="What DuckDB may hold at once; its own default.")

    @field_validator("url", mode="after")
    @classmethod
    def _names_a_path(cls, url: str) -> str:
        """A wrong url is an error where it is written; what an environment variable holds is known later."""
        return url if isinstance(url, dg.EnvVar) else _checked(url, "url", "data/warehouse.duckdb")

    def store(self) -> DuckDBStore:
        """The DuckDB file."""
        limit: dict[str, str | int] = (
            {} if self.memory_limit_mb is None else {"memory_limit": f"{self.memory_limit_mb}MB"}
        )
        return DuckDBStore(self.url, self.wait_seconds, limit)

    def default_schema(self) -> str | None:
        """The configured schema."""
        return self.schema_


class ParquetPartitionIOManager(PartitionIOManager):
    """Parquet files, one a partition: one rename a partition, the commit record in the footer."""

    root: str = Field(description="Folder of the files.")
    wait_seconds: float = Field(default=60.0, description="How long to wait for another writer of a partition.")
    cache: str | None = Field(
        default=None,
        description="Folder for the commit records of unchanged files, so that a look at all of them opens none. "
        "It may be deleted at any time.",
    )
    memory_limit_mb: int | None = Field(
        default=None,
        description="What a write or a read may hold at once; 805 MB, or 268 for each core if that is more.",
    )

    @field_validator("root", mode="after")
    @classmethod
    def _names_a_path(cls, root: str) -> str:
        """A wrong root is an error where it is written; what an environment variable holds is known later."""
        return root if isinstance(root, dg.EnvVar) else _checked(root, "root", "data/lake")

    def store(self) -> ParquetStore:
        """The folder."""
        cache = None if self.cache is None else Path(self.cache)
        return ParquetStore(self.root, self.wait_seconds, cache, self.memory_limit_mb)


def _checked(value: str, setting: str, example: str) -> str:
    try:
        local_path(value, setting, example)
    except UnknownPlace as error:
        raise ValueError(str(error)) from error
    return value


def _warn_of_places(context: dg.OutputContext) -> None:
    """What a body says about its output as it runs is information: where rows lie, readers have to know before."""
    for name in ("table", "schema", "partition_column"):
        said = getattr((context.output_metadata or {}).get(name), "value", None)
        if isinstance(said, str) and said != context.definition_metadata.get(name):
            context.log.warning(
                f"The metadata {name!r} ({said!r}) that the output of {context.asset_key.to_user_string()!r} carries "
                "does not say where its rows go; only the metadata in the asset's definition does."
            )


def _note_unread(
    step: Any, own: Store, parents: Mapping[str | None, Sequence[tuple[str, str | None]]]
) -> list[Receipt]:
    """Parents that no IO manager loaded (`deps=`): their commit records stand for what the body read.

    Raises InputChanged when one was rewritten since the step began (retrying helps).
    """
    book = receipts_of(step)
    unread = sorted({p for group in parents.values() for p in group if not book.knows(*p)}, key=repr)
    receipts = []
    for asset in dict.fromkeys(asset for asset, _ in unread):
        store = _store_of(step, asset) or own
        keys = [key for other, key in unread if other == asset]
        if reads_all(step, dg.AssetKey.from_user_string(asset)):
            book.may_be_absent(asset)
            keys = [key for _, key in store.last_commits([asset], keys)]
        receipts += _as_committed(step, store, asset, keys)
    refuse_changed(receipts)
    for receipt in receipts:
        book.add(receipt.asset, receipt.partition, receipt.fingerprint)
    return receipts


def _store_of(step: Any, asset: str) -> Store | None:
    """Where an input lies; None where none of our IO managers writes it."""
    layer, key = step.job_def.asset_layer, dg.AssetKey.from_user_string(asset)
    if not layer.has(key):
        return None
    manager = getattr(step.resources, layer.get(key).io_manager_key, None)
    return manager.store() if isinstance(manager, PartitionIOManager) else None


def _as_committed(step: Any, store: Store, asset: str, keys: Sequence[str | None]) -> list[Receipt]:
    """These partitions as they were committed when the step began."""
    commits = store.last_commits([asset], keys)
    began = events.began(step)
    receipts = []
    for key in keys:
        commit = commits.get((asset, key))
        fingerprint = commit.fingerprint if commit is not None else None
        if commit is not None and commit.committed_at > began:
            fingerprint = fingerprint_at(store.history(asset, key), began)
        receipts.append(Receipt(asset, key, fingerprint, store))
    refuse_missing([read for read in receipts if (asset, read.partition) not in commits], store)
    return receipts


def _failure(context: dg.InputContext | dg.OutputContext, error: EtlError) -> dg.Failure:
    step = context.step_context
    tag_run(step.instance, step.run_id, error)
    return as_failure(error)
