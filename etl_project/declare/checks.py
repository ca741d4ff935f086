"""Checks by partition: one result for each day of a run, so that the UI and `etl status` show which day is red.

Belongs here: recording them. Dagster itself gives a check over a range one result for the whole range (1.13, preview).
"""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg


def by_partition(
    context: dg.AssetCheckExecutionContext, results: Mapping[str, dg.AssetCheckResult]
) -> dg.AssetCheckResult:
    """Record the result of each partition key, and give that of the run: failed if one of them did.

    For a check that is declared with the `partitions_def` of its asset; return what this gives. Of a blocking check
    only the partitions that failed as errors are held back, the others of the range go on. A kill in the middle leaves
    the check unfinished, and it is run again.
    """
    [key] = context.selected_asset_check_keys
    if len(results) == 1 and context.has_partition_key:
        return next(iter(results.values()))
    for partition, result in results.items():
        context.op_execution_context.log_event(
            dg.AssetCheckEvaluation(  # type: ignore[arg-type]  # Taken, and missing in the annotation only.
                asset_key=key.asset_key,
                check_name=key.name,
                passed=result.passed,
                metadata=result.metadata,
                severity=result.severity,
                description=result.description,
                partition=partition,
            )
        )
    failed = {partition: result for partition, result in results.items() if not result.passed}
    as_errors = any(result.severity is dg.AssetCheckSeverity.ERROR for result in failed.values())
    said = [f"{partition}: {result.description or 'failed'}" for partition, result in failed.items()]
    return dg.AssetCheckResult(
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if as_errors or not failed else dg.AssetCheckSeverity.WARN,
        description="; ".join(said) or None,
        metadata={"partitions": len(results), "partitions that failed": len(failed)},
    )
