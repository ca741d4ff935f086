"""IO managers: the storage contract for any Dagster project, as a thin adapter.

Belongs here: what a Dagster context says, in the words of a store, and what a store says, in the words of Dagster. No
decision about data is made here.

    from etl_project.storage import DuckDBPartitionIOManager
    Definitions(assets=[...], resources={"io_manager": DuckDBPartitionIOManager(url="warehouse.duckdb")})
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
from pydantic import ConfigDict, Field, field_validator

from etl_project.failures import EtlError
from etl_project.settings import MOST_VERSIONS
from etl_project.storage import as_of, recorded
from etl_project.storage.as_of import AS_OF
from etl_project.storage.contract import (
    Commit,
    InputChanged,
    Partial,
    PartlyCommitted,
    ReadRefused,
    Receipt,
    Scope,
    Slice,
    Store,
    Table,
)
from etl_project.storage.dagster import (
    column_lineage,
    conversions,
    declared,
    events,
    input_metadata,
    inputs_read,
    internals,
    one_table,
    own_rows,
    passed_on,
    preview,
    received,
)
from etl_project.storage.dagster.asked import request_of
from etl_project.storage.dagster.audit import Audit
from etl_project.storage.dagster.conversions import Wanted
from etl_project.storage.dagster.internals import partitions_of, step_of
from etl_project.storage.dagster.lineage import reads_all
from etl_project.storage.dagster.partition_lock import PartitionLock
from etl_project.storage.dagster.reporting import as_failure, tag_run
from etl_project.storage.dagster.scopes import scope_named, scope_of, table_of
from etl_project.storage.deployment import Writer
from etl_project.storage.judging import labels
from etl_project.storage.judging.messages import ChecksFailed, missing_partitions
from etl_project.storage.judging.receipts import receipts_of, refuse_damaged, refuse_missing
from etl_project.storage.recorded import Dtypes

ABSENT_PARTITIONS = "absent_partitions"
"""Input metadata: `allowed` lets some of the partitions that an input maps to not exist (yet): they may still come.
They are no part of the input hash, so that it changes when they do."""

_TRIES = 3


class PartitionIOManager(dg.ConfigurableIOManager):
    """Replaces exactly the partitions of the run and reads exactly those that an input maps to."""

    # What is wrong with a setting says so itself; pydantic would quote all of it, be there a key in it or not.
    model_config = ConfigDict(hide_input_in_errors=True)

    run_lock: PartitionLock | None = Field(
        default=None, description="Keeps two runs off one partition; without it the store alone decides who wins."
    )

    preview_rows: int = Field(
        default=0,
        ge=0,
        description="Rows of each partition shown in the UI; they go into the event log. Asset metadata `preview_rows` "
        "wins.",
    )

    pandas_dtypes: Dtypes = Field(
        default="recorded",
        description="Types of the columns of a pandas frame that is read: `recorded`, those that it was written with; "
        "`numpy`, pandas' own; `pyarrow`, Arrow-backed ones; `numpy_nullable`, pandas' own with `pandas.NA`.",
    )

    dtype_backend: str | None = Field(
        default=None,
        description="The same as pandas' readers call it: `pyarrow` or `numpy_nullable`. It wins over `pandas_dtypes`; "
        "the metadata `dtype_backend` of an input wins over both.",
    )

    @field_validator("dtype_backend", mode="after")
    @classmethod
    def _is_one_of_pandas(cls, backend: str | None) -> str | None:
        """Checked here: Dagster takes no optional choice of texts."""
        return recorded.dtype_backend(backend)

    keep_versions: int = Field(
        default=0,
        ge=0,
        le=MOST_VERSIONS,
        description="Replaced versions of each partition that stay readable; asset metadata `keep_versions` wins.",
    )

    keep_versions_days: int | None = Field(
        default=None, ge=1, description="And of those only what was replaced within so many days."
    )

    record_inputs: bool = Field(
        default=False,
        description="Name in every event the partitions that were read for it, with the fingerprints that they had.",
    )

    @abstractmethod
    def store(self) -> Store:
        """The store behind this IO manager."""

    def kept_open(self, store: Store, to_read: bool = False) -> AbstractContextManager[None]:
        """A block in which a store stays open that is opened for each question else; nothing to do for most.

        Nothing is written in one that is only `to_read`.
        """
        return nullcontext()

    def default_schema(self) -> str | None:
        """The schema of tables whose asset names none."""
        return None

    def table(self, spec: dg.AssetSpec) -> Table:
        """The table of an asset, as its definition and this IO manager say."""
        return self._table(spec.key, spec.metadata, spec.partitions_def)

    def _table(self, key: dg.AssetKey, metadata: Mapping[str, Any], partitions: Any) -> Table:
        keeps = self.keep_versions, self.keep_versions_days
        return table_of(key, metadata, self.default_schema(), partitions, *keeps)

    def place_of(self, table: Table) -> Hashable:
        """What two assets must not have in common. An environment variable stands for what it will hold."""
        return id(self), (table.schema or "").lower(), table.name.lower()

    def shows(self, resource: Any) -> bool:
        """Whether a resource that gives DuckDB connections looks into the database of this IO manager."""
        return False

    def get_resource_definition(self) -> Any:
        """What Dagster takes it for. It asks when definitions load: those that could not be stored are refused."""
        declared.refuse_at_load(self)
        return super().get_resource_definition()

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Refuse a run, before its first step, when one of its assets shares its table with another asset."""
        one_table.refuse_shared(context, self.table, self.place_of)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Make the run's partitions hold exactly `obj`; see `Store.replace` for what is refused.

        Partitions of a range that are committed although others are at fault are reported as materialized, and so
        are those that a `Partial` has data for. What belongs to no asset is handed on to later steps as it is.
        """
        try:
            if not context.has_asset_key:
                return passed_on.keep(context, obj)
            table, scope = self._target(context)
            audit, store = Audit(context, table, self), self.store()
            commits, previews = self._replaced(context, store, table, scope, obj, audit)
        except PartlyCommitted as error:
            previews = self._previews(context, store, table, scope, error.commits)
            lineage, read = column_lineage.said_of(context, obj), self._inputs(context, error.commits)
            events.materialized(context, error.commits, previews, lineage, read)
            audit.tell(context, {commit.partition for commit in error.commits})
            raise _failure(context, error) from error
        except ChecksFailed as error:
            audit.tell(context)
            raise _failure(context, error) from error
        except EtlError as error:
            raise _failure(context, error) from error
        lineage, read = column_lineage.said_of(context, obj), self._inputs(context, commits)
        if len(commits) == 1 or step_of(context) is None:
            events.describe(context, commits[0], previews, lineage, read)
        else:
            events.materialized(context, commits, previews, lineage, read)
            internals.no_more_events(context)

    def load_input(self, context: dg.InputContext) -> Any:
        """The partitions that the input maps to, as the type that the parameter is annotated with.

        pandas (as it was written), pyarrow, polars, a DuckDB relation, dictionaries, or a lazy Slice; `dict[str, ...]`
        gives each partition for itself, and `Optional[...]` gives None where none of them was ever committed.
        Input metadata `columns` limits the columns, `as_of` reads versions that are kept. A partition that was never
        committed is refused, unless the input says `absent_partitions: allowed` or is Optional. Outside of a run it
        reads the partition of the context, of a context without one all that are committed.
        """
        if not context.has_asset_key:
            return passed_on.fetch(context)
        return self.read_from(self.store(), context)

    def read_from(self, store: Store, context: dg.InputContext) -> Any:
        """As `load_input`, from a store of the same kind: one that shows what is not published yet."""
        try:
            dtypes: Dtypes = (
                input_metadata.dtype_backend(context)
                or recorded.dtype_backend(self.dtype_backend)
                or self.pandas_dtypes
            )
            wanted = replace(Wanted.of(conversions.annotation_of(context)), dtypes=dtypes)
            may_be_absent = wanted.optional or context.definition_metadata.get(ABSENT_PARTITIONS) == "allowed"
            table, scope = self._source(store, context)
            step = step_of(context)
            starts = step is not None and own_rows.is_own(context) and own_rows.starts_here(context, store, table)
            may_be_absent = may_be_absent or starts or (step is not None and reads_all(step, context.asset_key))
            if AS_OF in context.definition_metadata:
                return self._read_as_of(store, context, table, scope, wanted, may_be_absent)
            read = self._first if starts else self._read
            reads, rows = read(store, context, table, scope, wanted)
            refuse_damaged(reads, store, table, scope)
            if not may_be_absent:
                refuse_missing(reads, store)
        except EtlError as error:
            raise _failure(context, error) from error
        self._note(context, table, reads, may_be_absent)
        return rows

    def _read_as_of(
        self,
        store: Store,
        context: dg.InputContext,
        table: Table,
        scope: Scope,
        wanted: Wanted,
        may_be_absent: bool,
    ) -> Any:
        """The partitions as they were.

        The step's commit counts what is there now as its input, like one that is named by `deps=`: so the asset is
        asked for again when the input changes, as every other one is, and then gives the same rows.
        """
        moment = as_of.moment_of(
            getattr(context.definition_metadata[AS_OF], "value", context.definition_metadata[AS_OF])
        )
        earlier = as_of.AsOf(store, moment, may_be_absent)
        _, rows = conversions.read(earlier, table, scope, input_metadata.columns(context), wanted)
        return rows

    def _note(self, context: dg.InputContext, table: Table, reads: Sequence[Receipt], may_be_absent: bool) -> None:
        """Note for the step's commit what was read; outside of a step nothing follows from it."""
        step = step_of(context)
        if step is None:
            return
        book = receipts_of(step)
        if may_be_absent:
            book.may_be_absent(table.asset)
        for read in reads:
            if not may_be_absent or read.fingerprint is not None:
                book.add(read.asset, read.partition, read.fingerprint)

    def _read(
        self, store: Store, context: dg.InputContext, table: Table, scope: Scope, wanted: Wanted
    ) -> tuple[Sequence[Receipt], Any]:
        """The rows and what they are; once more when they were rewritten between being named and being read."""
        columns = input_metadata.columns(context)
        # A stream goes on reading when the block has ended, and a slice is read by somebody else.
        is_whole = wanted.kind not in (pa.RecordBatchReader, Slice)
        with self.kept_open(store, to_read=True) if is_whole else nullcontext():
            for _ in range(_TRIES - 1):
                with suppress(InputChanged):
                    return conversions.read(store, table, scope, columns, wanted)
            return conversions.read(store, table, scope, columns, wanted)

    def _first(
        self, store: Store, context: dg.InputContext, table: Table, scope: Scope, wanted: Wanted
    ) -> tuple[Sequence[Receipt], Any]:
        """What the first partition of an asset reads of the asset itself: nothing, be there a table or not."""
        try:
            reads, rows = self._read(store, context, table, scope, wanted)
        except ReadRefused:
            reads, rows = (), conversions.of_no_table(table, wanted)
        return reads, own_rows.any_column(rows)

    def _replaced(
        self, context: dg.OutputContext, store: Store, table: Table, scope: Scope, obj: Any, audit: Audit
    ) -> tuple[list[Commit], dict[str | None, str]]:
        """Replace the partitions that there is data for, then look at the rows. Raises PartlyCommitted for the others.

        The body's rows are made before the store is kept open: however long that takes, others need not wait for it.
        """
        missing = obj.missing if isinstance(obj, Partial) else {}
        data = obj.data if isinstance(obj, Partial) else obj
        given = Scope(tuple(partition for partition in scope.partitions if partition.key not in missing))
        lock = self._still_owner(table, [partition.key for partition in given.partitions])
        request = request_of(step_of(context), context.asset_key, given, store, _store_of, lock)
        rows, frame = received.rows_of(store, table, given, data)
        if said := labels.left_out(data):
            context.log.info(said)
        request = replace(request, frame=frame, audit=audit.wanted)
        with self.kept_open(store):
            commits = store.replace(table, given, rows, request) if given.partitions else []
            if missing:
                raise PartlyCommitted(missing_partitions(table, len(commits), missing), commits, missing)
            return commits, self._previews(context, store, table, scope, commits)

    def _inputs(self, context: dg.OutputContext, commits: Sequence[Commit]) -> events.Said:
        return inputs_read.said_of(context, [commit.partition for commit in commits]) if self.record_inputs else {}

    def _previews(
        self, context: dg.OutputContext, store: Store, table: Table, scope: Scope, commits: Sequence[Commit]
    ) -> dict[str | None, str]:
        """What the UI shows of the committed rows. It is looked up after the commit, so it cannot fail the step."""
        count = preview.wanted(context.definition_metadata, self.preview_rows)
        there = {commit.partition for commit in commits if commit.rows}
        if not count or not there:
            return {}
        try:
            written = Scope(tuple(partition for partition in scope.partitions if partition.key in there))
            return preview.previews(store, table, written, count)
        except (EtlError, duckdb.Error, pa.ArrowException, OSError, KeyError) as error:
            context.log.warning(f"Committed, but its rows cannot be shown: {error}")
            return {}

    def _writer(self) -> Writer:
        """What a store on a server asks, to keep two deployments off one table."""
        return None if self.run_lock is None else self.run_lock.deployment

    def _still_owner(self, table: Table, keys: Sequence[str | None]) -> Callable[[], None]:
        """What the store calls right before each commit; it raises when the run has lost its lock.

        A run takes and loses its partitions together, so one of them tells for all.
        """
        lock = self.run_lock
        return (lambda: None) if lock is None else partial(lock.check, table.asset, keys[:1])

    def _target(self, context: dg.OutputContext) -> tuple[Table, Scope]:
        _warn_of_places(context)
        table = self._table(context.asset_key, context.definition_metadata, partitions_of(context))
        return table, self._scope(context) or Scope.whole()

    def _source(self, store: Store, context: dg.InputContext) -> tuple[Table, Scope]:
        upstream = context.upstream_output
        metadata = upstream.definition_metadata if upstream is not None else {}
        partitions = partitions_of(context)
        table = self._table(context.asset_key, metadata, partitions)
        scope, step = self._scope(context), step_of(context)
        if scope is not None and len(scope.partitions) > 1 and step is not None and internals.is_only_a_check(step):
            # A check without partitions of its own maps to all there will ever be: it looks at those of its run, else
            # at those that are committed.
            keys = internals.keys_of_run(step, partitions) if partitions is not None else []
            scope = scope_of(context.asset_key, partitions, keys) if keys else None
        if scope is None and partitions is not None:
            committed = {str(key) for _, key in store.last_commits([table.asset])}
            damaged = map(str, store.damaged(table))
            scope = scope_of(context.asset_key, partitions, sorted(committed.union(damaged)))
        return table, scope or Scope.whole()

    def _scope(self, context: dg.InputContext | dg.OutputContext) -> Scope | None:
        """The partitions that the context names; None where it names none."""
        partitions = partitions_of(context)
        if context.has_asset_partitions and partitions is not None:
            return scope_of(context.asset_key, partitions, context.asset_partition_keys)
        # Outside of a run a context may name a partition, but not say what it is one of.
        named = step_of(context) is None and context.has_partition_key
        return scope_named(context.partition_key) if named else None


def _warn_of_places(context: dg.OutputContext) -> None:
    """What a body says about its output as it runs is information: where rows lie, readers have to know before."""
    for name in ("table", "schema", "partition_column"):
        said = getattr((context.output_metadata or {}).get(name), "value", None)
        if isinstance(said, str) and said != context.definition_metadata.get(name):
            context.log.warning(
                f"The metadata {name!r} ({said!r}) that the output of {context.asset_key.to_user_string()!r} carries "
                "does not say where its rows go; only the metadata in the asset's definition does."
            )


def _store_of(resource: Any) -> Store | None:
    return resource.store() if isinstance(resource, PartitionIOManager) else None


def _failure(context: dg.InputContext | dg.OutputContext, error: EtlError) -> Exception:
    """What Dagster has to see in a run; outside of one the error as it is."""
    step = step_of(context)
    if step is None:
        return error
    tag_run(step.instance, step.run_id, error)
    return as_failure(error)
