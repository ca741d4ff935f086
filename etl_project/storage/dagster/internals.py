"""Dagster's internals: every name of Dagster that is not public and that the IO managers use.

Belongs here: nothing but such names, each behind one function that says what it is needed for. A test goes through all
of them, so that a version of Dagster that renames one is noticed by it, and not by somebody's run.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_IS_USER_PROVIDED_TAG, DATA_VERSION_TAG, DataVersion
from dagster._core.definitions.metadata import normalize_metadata
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.partitions.utils import infer_partition_mapping
from dagster._core.errors import DagsterInvariantViolationError
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, generate_event_batch_id
from dagster._core.execution.plan import execute_step
from dagster._utils.warnings import disable_dagster_warnings


def step_of(context: dg.InputContext | dg.OutputContext) -> Any | None:
    """The step that reads or writes; None in a notebook, a test or a sensor."""
    try:
        return context.step_context
    except DagsterInvariantViolationError:
        return None


def is_only_a_check(step: Any) -> bool:
    """Whether the step checks assets and writes none."""
    outputs = [output.properties for output in step.step.step_outputs]
    return bool(outputs) and all(one.asset_check_key is not None and one.asset_key is None for one in outputs)


def keys_of_run(step: Any, partitions: dg.PartitionsDefinition[Any]) -> list[str]:
    """The partitions of this definition that the run is over; none where it is over none, or over those of others."""
    tags = step.dagster_run.tags
    one = tags.get("dagster/partition")
    first, last = (tags.get(f"dagster/asset_partition_range_{end}", one) for end in ("start", "end"))
    if first is None or last is None:
        return []
    with partitions_of_instance(step.instance):
        known = partitions.has_partition_key(first) and partitions.has_partition_key(last)
        return list(partitions.get_partition_keys_in_range(dg.PartitionKeyRange(first, last))) if known else []


def partitions_of(context: dg.InputContext | dg.OutputContext) -> dg.PartitionsDefinition[Any] | None:
    """The partitions that the asset is defined with, whether the run has one or not; None where nobody knows of any."""
    try:
        return context.asset_partitions_def
    except DagsterInvariantViolationError:
        return None


def partitions_of_instance(instance: Any) -> AbstractContextManager[Any]:
    """A block in which dynamic partitions are those of the instance."""
    context: AbstractContextManager[Any] = partition_loading_context(dynamic_partitions_store=instance)
    return context


def mapping_between(assets: Any, parent: dg.AssetKey, here: Any, there: Any) -> dg.PartitionMapping:
    """The mapping that an asset declares for a parent, else the one that Dagster takes."""
    declared = None if assets is None else assets.get_partition_mapping_for_dep(parent)
    mapping: dg.PartitionMapping = infer_partition_mapping(declared, here, there)
    return mapping


def set_data_version(context: dg.OutputContext, fingerprint: str) -> None:
    """Let the event that Dagster is about to make carry this data version."""
    step = step_of(context)
    if step is not None:
        step.set_data_version(context.asset_key, DataVersion(fingerprint))


def materializations(
    context: dg.OutputContext, versions: Mapping[str, str], metadata: Mapping[str, Mapping[str, Any]]
) -> Iterator[dg.AssetMaterialization]:
    """One materialization for each partition, as Dagster makes it of what the body returned, with its own data version.

    A data version that the body gave counts for all of them, as it does where Dagster makes the events.
    """
    step, asset_key = context.step_context, context.asset_key
    output = returned_output() or dg.Output(None, context.name, metadata=dict(context.output_metadata or {}))
    for partition, version in versions.items():
        set_data_version(context, version)
        known: dict[str, Any] = {
            "asset_key": asset_key,
            "asset_partitions": [_as_key(partitions_of(context), partition)],
            "output": output,
            "output_def": step.op_def.output_def_named(context.name),
            "io_manager_metadata": normalize_metadata(dict(metadata[partition])),
            "step_context": step,
            "execution_type": _materialization(),
        }
        yield from _made(known) or [_plain(asset_key, partition, version, output, metadata[partition])]


def _as_key(partitions: Any, key: str) -> str:
    """The key with its dimensions, of which Dagster makes tags."""
    return partitions.get_partition_key_from_str(key) if isinstance(partitions, dg.MultiPartitionsDefinition) else key


def returned_output() -> dg.Output[Any] | None:
    """What the body returned, with its tags and data version: Dagster hands an IO manager only the value of it.

    It is looked up in the frame of Dagster's function that stores it; None where there is no such frame.
    """
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "_store_output":
        frame = frame.f_back  # type: ignore[assignment]
    found = None if frame is None else frame.f_locals.get("output")
    return found if isinstance(found, dg.Output) else None


class Defined(NamedTuple):
    """The assets that a run's code location has, as far as its process knows, and those that the run builds."""

    assets: Sequence[dg.AssetsDefinition]
    selected: frozenset[dg.AssetKey]


def definitions_of_run() -> Defined | None:
    """What is defined beside the run that is being set up: Dagster tells a resource nothing of it.

    It is looked up in the frame of Dagster's function that sets the run's resources up; None where there is none.
    """
    frame = sys._getframe()
    while frame is not None and "context_creation_data" not in frame.f_locals:
        frame = frame.f_back  # type: ignore[assignment]
    data = None if frame is None else frame.f_locals["context_creation_data"]
    layer = getattr(getattr(data, "job_def", None), "asset_layer", None)
    if layer is None:
        return None
    repository = data.repository_def
    graph = layer.asset_graph if repository is None else repository.asset_graph
    return Defined(tuple(graph.assets_defs), frozenset(layer.selected_asset_keys))


class Loading(NamedTuple):
    """Definitions of which Dagster is making a code location, or a job of its own."""

    assets: Sequence[Any]
    resources: Mapping[str, Any]


def definitions_being_loaded() -> Loading | None:
    """What is defined beside a resource that Dagster asks for its definition: it tells the resource nothing of it.

    It is looked up in the frame of Dagster's function that makes a repository of definitions; None where there is none.
    """
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "_create_repository_using_definitions_args":
        frame = frame.f_back  # type: ignore[assignment]
    found: Mapping[str, Any] = {} if frame is None else frame.f_locals
    if not isinstance(found.get("resources"), Mapping):
        return None
    return Loading(tuple(found.get("assets") or ()), found["resources"])


def says_only_metadata(asset: dg.AssetsDefinition) -> bool:
    """Whether the body of an asset is annotated to return a MaterializeResult; False where Dagster has no body of it.

    To Dagster such an output is one of any type, like one without annotation.
    """
    body = getattr(getattr(asset.node_def, "compute_fn", None), "decorated_fn", None)
    said = getattr(body, "__annotations__", {}).get("return")
    return said is dg.MaterializeResult or (isinstance(said, str) and said.rpartition(".")[2] == "MaterializeResult")


def blocking_checks(step: Any, asset_key: dg.AssetKey) -> dict[dg.AssetCheckKey, dg.AssetsDefinition]:
    """The blocking checks of an asset that are steps of their own, with what defines them.

    Those of the code location, be they part of the run or not; in a process that knows of none, those of the job.
    """
    repository = step._execution_data.repository_def
    graph = step.job_def.asset_layer.asset_graph if repository is None else repository.asset_graph
    return dict(_blocking(graph.assets_defs, asset_key))


def _blocking(
    definitions: Iterable[dg.AssetsDefinition], asset_key: dg.AssetKey
) -> Iterator[tuple[dg.AssetCheckKey, dg.AssetsDefinition]]:
    for one in definitions:
        if asset_key not in one.keys:
            yield from ((spec.key, one) for spec in one.check_specs if spec.blocking and spec.asset_key == asset_key)


def without_warnings() -> AbstractContextManager[Any]:
    """A block in which Dagster does not warn of what is preview or beta: who wrote the definitions was warned."""
    context: AbstractContextManager[Any] = disable_dagster_warnings()
    return context


def without_resources(definition: dg.AssetsDefinition) -> Any:
    """The same assets or checks, not yet tied to resources, as they were before definitions were made of them."""
    return type(definition).dagster_internal_init(**{**definition.get_attributes_dict(), "resource_defs": {}})


def as_it_is_stored(node: Any) -> dg.AssetSpec:
    """An asset of a job without what makes it: enough to read it."""
    spec = dg.AssetSpec(node.key, metadata=node.metadata, partitions_def=node.partitions_def)
    return spec.with_io_manager_key(node.io_manager_key)


def log_evaluations(context: dg.OutputContext, evaluations: Sequence[dg.AssetCheckEvaluation]) -> None:
    """Record results of checks as events of the step that writes the asset."""
    step = step_of(context)
    if step is not None:
        context._events += [DagsterEvent.asset_check_evaluation(step, one) for one in evaluations]


def same_dynamic_partitions(
    step: Any, partitions: Iterable[dg.PartitionsDefinition | None], instance: dg.DagsterInstance
) -> None:
    """Have the dynamic partitions of these kinds that the instance of the step knows in another one, too."""
    names = {name for one in partitions if one is not None for name in _dynamic_names(one)}
    for name in sorted(names):
        instance.add_dynamic_partitions(name, list(step.instance.get_dynamic_partitions(name)))


def _dynamic_names(partitions: dg.PartitionsDefinition) -> list[str]:
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        return [name for one in partitions.partitions_defs for name in _dynamic_names(one.partitions_def)]
    name = partitions.name if isinstance(partitions, dg.DynamicPartitionsDefinition) else None
    return [] if name is None else [name]


def what_failed(event: DagsterEvent) -> str:
    """What a failed step said last."""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return "no reason" if error is None else error.message.strip()


def no_more_events(context: dg.OutputContext) -> None:
    """Keep Dagster from making the events of this output again: it makes none for an output without an asset."""
    context._asset_key = None
    if context.has_asset_partitions:  # Up to 1.12.0 it asks for the partitions of such an output all the same.
        context.__class__ = _WithoutPartitions


class _WithoutPartitions(dg.OutputContext):
    @property
    def has_asset_partitions(self) -> bool:
        """None, as far as anybody asks from here on."""
        return False


def _materialization() -> Any:
    from dagster._core.definitions.assets.definition import asset_spec  # noqa: PLC0415  # Renamed more often than others.

    return asset_spec.AssetExecutionType.MATERIALIZATION


def _made(known: Mapping[str, Any]) -> list[dg.AssetMaterialization]:
    """The events by Dagster's own function; none where it wants something that is not known here."""
    make = getattr(execute_step, "_get_output_asset_events", None)
    wanted = list(inspect.signature(make).parameters) if make is not None else []
    if make is None or not set(wanted) <= set(known):
        return []
    return list(make(**{name: known[name] for name in wanted}))


def _plain(
    asset_key: dg.AssetKey, partition: str, version: str, output: dg.Output[Any], metadata: Mapping[str, Any]
) -> dg.AssetMaterialization:
    """The event by public means: it lacks which versions of its inputs it was made from."""
    given = output.data_version
    tags = {
        **(output.tags or {}),
        DATA_VERSION_TAG: given.value if given is not None else version,
        DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
    }
    return dg.AssetMaterialization(asset_key, metadata={**output.metadata, **metadata}, partition=partition, tags=tags)


def log_together(context: dg.OutputContext, events: Sequence[dg.AssetMaterialization]) -> None:
    """As `context.log_event` of each, marked as one batch: a storage that takes batches writes them at once."""
    step = step_of(context)
    batch = generate_event_batch_id()  # type: ignore[no-untyped-call]
    for event in events:
        if step is None:
            context.log_event(event)
            continue
        last = DagsterEventBatchMetadata(batch, is_end=event is events[-1])
        context._events.append(DagsterEvent.asset_materialization(step, event, last))
        context._user_events.append(event)
