"""Audit: an asset's blocking checks, run on rows that are not published yet, inside the step that brought them.

Belongs here: finding those checks, running them as Dagster runs them, in a run of their own that is forgotten, with IO
managers and DuckDB resources that show the new rows; and what they said, as Dagster's events. Does not belong here:
keeping what did not pass (the stores'), or the checks themselves.

They run again afterwards as steps of their own, as every check does: what opens files or databases by itself, past its
inputs and resources, sees the published rows only, and is caught then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg

from etl_project.failures import FAILURE_TAG, Transient
from etl_project.storage.contract import Scope, Store, Table, WriteRefused
from etl_project.storage.dagster import internals
from etl_project.storage.dagster.internals import step_of
from etl_project.storage.dagster.scopes import AFTER_CHECKS, PUBLISH, dimensions_of
from etl_project.storage.judging.messages import what
from etl_project.storage.judging.publishing import ALLOW_UNCHECKED_TAG, refusal
from etl_project.storage.tables.store import TableStore
from etl_project.utc import run_tags

if TYPE_CHECKING:
    from etl_project.storage.dagster.io_manager import PartitionIOManager

OF_CANDIDATE = "of a candidate"
"""Metadata of a check's result that is about rows which were not published: it says nothing of those that are."""

_JOB = "audit"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

Evaluations = Sequence[dg.AssetCheckEvaluation]


class ChecksUnfinished(Transient):
    """A check ended without a result. Nothing was published; retrying helps once its cause is gone."""


class Audit:
    """The blocking checks of one asset, as `Request.audit`."""

    def __init__(self, context: dg.OutputContext, table: Table, manager: PartitionIOManager) -> None:
        self._step, self._asset_key = step_of(context), context.asset_key
        self._table, self._manager = table, manager
        self._found: dict[tuple[str, str | None], dg.AssetCheckEvaluation] = {}
        self._resources: Mapping[str, Any] = {}
        self._job: dg.JobDefinition | None = None

    @property
    def wanted(self) -> Audit | None:
        """Itself where the rows are to pass their checks first. Raises WriteRefused where there are none to pass."""
        if not self._table.publish_after_checks:
            return None
        if self._step is not None and self._step.dagster_run.tags.get(ALLOW_UNCHECKED_TAG, "").lower() == "true":
            return None
        if not self._checks():
            raise WriteRefused(
                f"Asset {self._table.asset!r} says {PUBLISH}: {AFTER_CHECKS}, and no blocking check of it is known "
                f"{'outside of a run' if self._step is None else 'to this job'}. Nothing was changed; retrying does "
                "not help. Build it in a job that has its checks, or with the run tag "
                f"{ALLOW_UNCHECKED_TAG}=true."
            )
        return self

    def __call__(self, scope: Scope, store: Store) -> None:
        """Let the rows of these partitions pass, as the store shows them.

        Raises ChecksFailed (retrying does not help) and ChecksUnfinished (it does).
        """
        with internals.without_warnings(), self._showing(store), dg.DagsterInstance.ephemeral() as instance:
            internals.same_dynamic_partitions(self._step, self._partitions(), instance)
            result = self._run(scope, instance)
            keys = [partition.key for partition in scope.partitions]
            found = {key: _of_keys(result.get_asset_check_evaluations(), key, keys) for key in self._checks()}
            judged = [one for each in found.values() for one in each]
            self._found |= {(one.check_name, one.partition): one for one in judged}
            failed = [one for one in judged if not one.passed and one.severity is dg.AssetCheckSeverity.ERROR]
            if failed:
                raise refusal(self._table, scope, "\n".join(map(_in_words, failed)))
            if not all(found.values()):
                self._refuse_unfinished(scope, [key.name for key in found if not found[key]], result, instance)

    def tell(self, context: dg.OutputContext, committed: Collection[str | None] = ()) -> None:
        """Record what the checks found where their own steps will not: the step that brought the rows fails.

        Of partitions that are not `committed` it is said of the candidate.
        """
        internals.log_evaluations(
            context,
            [one if one.partition in committed and one.passed else _of_candidate(one) for one in self._found.values()],
        )

    def _checks(self) -> dict[dg.AssetCheckKey, dg.AssetsDefinition]:
        return {} if self._step is None else internals.blocking_checks(self._step, self._asset_key)

    def _partitions(self) -> list[dg.PartitionsDefinition | None]:
        """Those of the checks and of the assets that they read."""
        layer = self._step.job_def.asset_layer  # type: ignore[union-attr]
        checks = self._checks().values()
        read = {key for one in checks for key in one.keys_by_input_name.values()} | {self._asset_key}
        return [one.partitions_def for one in [*checks, *(layer.get(key) for key in read if layer.has(key))]]

    def _dimensions(self) -> tuple[str, ...]:
        layer = self._step.job_def.asset_layer  # type: ignore[union-attr]
        return dimensions_of(layer.get(self._asset_key).partitions_def)

    def _run(self, scope: Scope, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
        """The checks over these partitions, in a run that nobody else sees."""
        first, last = scope.partitions[0].key, scope.partitions[-1].key
        return self._audit_job().execute_in_process(
            instance=instance,
            tags={} if first is None or last is None else run_tags(first, last, self._dimensions()),
            run_config={**_QUIET, "ops": self._configured("ops", [one.op.name for one in self._checks().values()])},
            raise_on_error=False,
        )

    def _refuse_unfinished(
        self, scope: Scope, names: Sequence[str], result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance
    ) -> None:
        """Raise what kept checks from a result. One that failed has one, although its step fails with it."""
        failures = [event for event in result.all_events if event.is_step_failure]
        said = "; ".join(f"{one.step_key}: {internals.what_failed(one)}" for one in failures)
        run = instance.get_run_by_id(result.run_id)
        unchecked = f", or run it with the tag {ALLOW_UNCHECKED_TAG}=true to publish rows that are right."
        for_good = run is not None and run.tags.get(FAILURE_TAG) == "permanent"
        message = (
            f"{what(self._table, scope)}: no result of the blocking checks {', '.join(names)} ({said or 'no reason'}). "
            "Nothing was published; "
        )
        if for_good:
            raise WriteRefused(message + f"retrying does not help. Correct the check{unchecked}")
        raise ChecksUnfinished(message + f"retrying helps once the cause is gone. Else correct the check{unchecked}")

    def _audit_job(self) -> dg.JobDefinition:
        """The checks as a job. Its resources are looked up when it runs, so one job does for all partitions."""
        if self._job is None:
            checks = self._checks()
            definitions = {id(one): one for one in checks.values()}.values()
            read = {key for one in definitions for key in one.keys_by_input_name.values()} | {self._asset_key}
            layer = self._step.job_def.asset_layer  # type: ignore[union-attr]
            found = [layer.get(key) for key in sorted(read) if layer.has(key)]
            self._job = dg.Definitions(
                assets=[internals.as_it_is_stored(node) for node in found],
                asset_checks=[internals.without_resources(one) for one in definitions],
                resources={key: self._looked_up(key) for key in self._needed()},
                jobs=[dg.define_asset_job(_JOB, selection=dg.AssetSelection.checks(*checks))],
                executor=dg.in_process_executor,
            ).resolve_job_def(_JOB)
        return self._job

    def _looked_up(self, key: str) -> dg.ResourceDefinition:
        is_io_manager = isinstance(self._definitions()[key], dg.IOManagerDefinition)
        kind = dg.IOManagerDefinition if is_io_manager else dg.ResourceDefinition
        return kind(resource_fn=lambda _: self._resources[key])

    def _needed(self) -> list[str]:
        """The resources that the checks, and the assets that they read, name and that there are."""
        layer = self._step.job_def.asset_layer  # type: ignore[union-attr]
        needed = {"io_manager"}
        for one in self._checks().values():
            needed |= one.required_resource_keys
            read = (layer.get(key) for key in one.keys_by_input_name.values() if layer.has(key))
            needed |= {node.io_manager_key for node in read}
        return sorted(needed & self._definitions().keys())

    def _definitions(self) -> Mapping[str, dg.ResourceDefinition]:
        found: Mapping[str, dg.ResourceDefinition] = self._step.job_def.resource_defs  # type: ignore[union-attr]
        return found

    @contextmanager
    def _showing(self, store: Store) -> Iterator[None]:
        """The resources of the checks, for as long as the block lasts; those of the asset's store show what is new.

        IO managers only read, and take no lock: that is held by the run that brought the rows.
        """
        needed = self._needed()
        with ExitStack() as stack:
            built = stack.enter_context(
                dg.build_resources(
                    {key: self._definitions()[key] for key in needed},
                    resource_config=self._configured("resources", needed),
                )
            )
            self._resources = {key: self._shown(getattr(built, key), store) for key in needed}
            yield

    def _shown(self, resource: Any, store: Store) -> Any:
        if isinstance(resource, type(self._manager)) and str(resource.store()) == str(self._manager.store()):
            return _Reading(resource, store)
        if isinstance(store, TableStore) and hasattr(resource, "get_connection") and self._manager.shows(resource):
            return _Connected(store)
        return resource

    def _configured(self, part: str, names: Sequence[str]) -> dict[str, Any]:
        """What the run's config says of these ops or resources."""
        given = self._step.run_config.get(part) or {}  # type: ignore[union-attr]
        return {name: given[name] for name in names if name in given}


class _Reading(dg.IOManager):
    """An IO manager that reads from another store of its kind."""

    def __init__(self, manager: PartitionIOManager, store: Store) -> None:
        self._manager, self._store = manager, store

    def load_input(self, context: dg.InputContext) -> Any:
        """As the IO manager does."""
        return self._manager.read_from(self._store, context)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """A check stores nothing."""
        raise WriteRefused(f"{context.step_key}: a check of rows that are not published stores nothing.")


class _Connected:
    """What a DuckDB resource is to a check: connections, here all of them the one that shows the new rows."""

    def __init__(self, store: TableStore) -> None:
        self._store = store

    @contextmanager
    def get_connection(self) -> Iterator[Any]:
        """The connection; it only reads."""
        with self._store.connect() as connection:
            yield connection


def _of_keys(evaluations: Evaluations, check: dg.AssetCheckKey, keys: Sequence[str | None]) -> Evaluations:
    """What a check says of these partitions: of each, else of the run as a whole; nothing where some are left out."""
    own = [one for one in evaluations if one.asset_check_key == check]
    by_key = {one.partition: one for one in own if one.partition is not None}
    of_run = [one for one in own if one.partition is None]
    found = [by_key[key] for key in keys if key in by_key]
    if len(found) == len(keys):
        return found
    return [*found, *of_run] if of_run or any(not one.passed for one in found) else []


def _in_words(failed: dg.AssetCheckEvaluation) -> str:
    where = f" of {failed.partition}" if failed.partition else ""
    return f"check {failed.check_name}{where} failed" + (f": {failed.description}" if failed.description else "")


def _of_candidate(one: dg.AssetCheckEvaluation) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=one.asset_key,
        check_name=one.check_name,
        passed=one.passed,
        metadata={**one.metadata, OF_CANDIDATE: True},
        severity=one.severity,
        description=one.description,
        blocking=one.blocking,
        partition=one.partition,
    )
