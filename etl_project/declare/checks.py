"""Checks by partition: each day has a result of its own, so that the UI and `etl status` show which day is red.

Belongs here: recording them. Dagster itself gives a check over a range one result for the whole range (1.13, preview).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, generate_event_batch_id
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus, AssetCheckPartitionInfo

_SHOWN = 20
_RED = AssetCheckExecutionRecordStatus.FAILED

Results = Mapping[str, dg.AssetCheckResult]


def by_partition(
    context: dg.AssetCheckExecutionContext, results: Results, otherwise: dg.AssetCheckResult | None = None
) -> dg.AssetCheckResult:
    """Record the result of each partition key, and give that of the run: failed if one of them did.

    For a check that is declared with the `partitions_def` of its asset; return what this gives. The partitions of the
    run are recorded in any case; others where something else was recorded of them last: a check that looks at all of
    them shows what it finds. `otherwise` is the result of every partition that `results` leaves out. Of a blocking
    check only the partitions that failed as errors are held back, the others of the range go on. A kill in the middle
    leaves the check unfinished, and it is run again.
    """
    [key] = context.selected_asset_check_keys
    infos = context.instance.event_log_storage.get_asset_check_partition_info([key])
    known = {info.partition_key: info for info in infos if info.partition_key is not None}
    own = _of_run(context, results, otherwise)
    others = {**(dict.fromkeys(known, otherwise) if otherwise is not None else {}), **results}
    news = {name: one for name, one in others.items() if name not in own and _is_news(one, known.get(name))}
    alone = context.has_partition_key and len(own) == 1
    if not (context.has_partition_key or context.has_partition_key_range):
        _without_partitions(context, key.asset_key)
    _record(context, key, news if alone else {**own, **news}, known)
    return next(iter(own.values())) if alone else _together(own or results)


def _of_run(
    context: dg.AssetCheckExecutionContext, results: Results, otherwise: dg.AssetCheckResult | None
) -> dict[str, dg.AssetCheckResult]:
    """What is said of the partitions of the run; of none where it has none."""
    in_partitions = context.has_partition_key or context.has_partition_key_range
    found = {name: results.get(name, otherwise) for name in (context.partition_keys if in_partitions else ())}
    return {name: result for name, result in found.items() if result is not None}


def _is_news(result: dg.AssetCheckResult, last: AssetCheckPartitionInfo | None) -> bool:
    """Whether something else was recorded last. A warning is left to the runs of its own partition."""
    if result.passed:
        return last is not None and last.latest_execution_status is _RED
    seen = last is not None and last.latest_execution_status is _RED and last.is_current
    return result.severity is dg.AssetCheckSeverity.ERROR and not seen


def _record(
    context: dg.AssetCheckExecutionContext,
    key: dg.AssetCheckKey,
    results: Results,
    known: Mapping[str, AssetCheckPartitionInfo],
) -> None:
    targets = dict(_targets(context.instance, key.asset_key, [known[name] for name in results if name in known]))
    evaluations = [
        dg.AssetCheckEvaluation(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=result.passed,
            metadata=result.metadata,
            severity=result.severity,
            description=result.description,
            target_materialization_data=targets.get(partition),
            partition=partition,
        )
        for partition, result in results.items()
    ]
    _log_together(context.op_execution_context, evaluations)


def _log_together(context: dg.OpExecutionContext, evaluations: Sequence[dg.AssetCheckEvaluation]) -> None:
    """As `context.log_event` of each, marked as one batch: a storage that takes batches writes them at once."""
    step, batch = context.get_step_execution_context(), generate_event_batch_id()  # type: ignore[no-untyped-call]
    for evaluation in evaluations:
        verdict = "passed" if evaluation.passed else "did not pass"
        said = f" Description: {evaluation.description!r}" if evaluation.description is not None else ""
        context._events.append(
            DagsterEvent.from_step(
                dg.DagsterEventType.ASSET_CHECK_EVALUATION,
                step,
                evaluation,
                f"Asset check {evaluation.check_name!r} on {evaluation.asset_key.to_user_string()!r} {verdict}.{said}",
                DagsterEventBatchMetadata(batch, is_end=evaluation is evaluations[-1]),
            )
        )


def _without_partitions(context: dg.AssetCheckExecutionContext, asset: dg.AssetKey) -> None:
    """Let the check end in a run without partitions (“Execute all” in the UI).

    Dagster looks up which materialization the result is about, and fails where the asset has partitions and the run
    has none. What it would have found is noted instead: none in particular.
    """
    step = context.op_execution_context.get_step_execution_context()
    step._data_version_cache.input_asset_version_info.setdefault(asset, None)


def _targets(
    instance: dg.DagsterInstance, asset: dg.AssetKey, infos: list[AssetCheckPartitionInfo]
) -> Iterator[tuple[str, Target]]:
    """The materialization that each partition has now. The UI shows no result that was given of another one."""
    ids = [info.latest_materialization_storage_id for info in infos if info.latest_materialization_storage_id]
    if not ids:
        return
    wanted = dg.AssetRecordsFilter(asset_key=asset, storage_ids=ids)
    for record in instance.fetch_materializations(wanted, limit=len(ids)).records:
        if record.partition_key is not None:
            yield (
                record.partition_key,
                Target(storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp),
            )


def _together(results: Results) -> dg.AssetCheckResult:
    failed = {partition: result for partition, result in results.items() if not result.passed}
    as_errors = any(result.severity is dg.AssetCheckSeverity.ERROR for result in failed.values())
    said = [f"{partition}: {result.description or 'failed'}" for partition, result in failed.items()]
    more = [f"and {len(said) - _SHOWN} more"] if len(said) > _SHOWN else []
    return dg.AssetCheckResult(
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if as_errors or not failed else dg.AssetCheckSeverity.WARN,
        description="; ".join([*said[:_SHOWN], *more]) or None,
        metadata={"partitions": len(results), "partitions that failed": len(failed)},
    )
