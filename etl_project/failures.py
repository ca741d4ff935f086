"""Failures: what went wrong, and whether trying again can help.

Belongs here: the two families of failure, and what each does to Dagster's retries. Does not belong here: any
particular failure; those live beside the code that raises them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

FAILURE_TAG = "etl/failure"
"""Run tag that says `permanent` or `transient`; the sensor reads it to decide when to ask again."""


class EtlError(Exception):
    """A failure with a message a person can act on. Every message says whether retrying helps."""

    retryable: bool = False


class Permanent(EtlError):
    """Retrying does not help: the data, the contract or the configuration has to change first."""

    retryable = False


class Transient(EtlError):
    """Retrying helps: something was busy, locked or unreachable, and nothing was changed."""

    retryable = True


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
    if error.retryable:
        run = instance.get_run_by_id(run_id)
        if run is not None and FAILURE_TAG not in run.tags:
            instance.add_run_tags(run_id, {FAILURE_TAG: "transient"})
        return
    instance.add_run_tags(run_id, {FAILURE_TAG: "permanent", "dagster/retry_on_asset_or_op_failure": "false"})


@contextmanager
def reported(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Let an EtlError of the block reach Dagster as the right kind of failure, noted on the run."""
    try:
        yield
    except EtlError as error:
        tag_run(instance, run_id, error)
        raise as_failure(error) from error
