"""Reporting: an error in the words of Dagster, so that its retries stop exactly when they cannot help.

Belongs here: what each family of failure does to a step and to its run. Does not belong here: any particular failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from etl_project.failures import FAILURE_TAG, WHOLE_TAG, EtlError


def as_failure(error: EtlError) -> dg.Failure:
    """Turn an error into the Dagster failure that stops op retries exactly when they cannot help."""
    return dg.Failure(
        description=str(error),
        metadata={"kind": type(error).__name__, "retrying helps": error.retryable},
        allow_retries=error.retryable,
    )


def tag_run(instance: dg.DagsterInstance, run_id: str, error: EtlError) -> None:
    """Note on the run which family its failure is of; a permanent one also stops Dagster's run retries.

    The worst note wins where several steps fail: a permanent failure is never overwritten by a transient one.
    """
    whole = {} if error.splits else {WHOLE_TAG: type(error).__name__}
    if error.retryable:
        run = instance.get_run_by_id(run_id)
        if run is not None and FAILURE_TAG not in run.tags:
            instance.add_run_tags(run_id, {FAILURE_TAG: "transient", **whole})
        return
    instance.add_run_tags(run_id, {FAILURE_TAG: "permanent", "dagster/retry_on_asset_or_op_failure": "false", **whole})


@contextmanager
def reported(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Let an EtlError of the block reach Dagster as the right kind of failure, noted on the run."""
    try:
        yield
    except EtlError as error:
        tag_run(instance, run_id, error)
        raise as_failure(error) from error
