"""Why something failed, in words: what a failed step said, and what of it is told again while it waits.

Belongs here: reading that off Dagster's events, in one line without secrets. Does not belong here: when it is asked for
again (`attempts`), and where the line is shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import dagster as dg
from dagster import DagsterEventType
from dagster._core.execution.plan.objects import StepFailureData

from etl_project.due import attempts
from etl_project.due.pending import Due
from etl_project.due.words import keys_in_words
from etl_project.instance import json_lines

MOST_REASONS = 20
"""So many reasons are looked up for one look; each is a query of the history."""

_LONGEST = 400
_TELLING = {DagsterEventType.STEP_FAILURE, DagsterEventType.RESOURCE_INIT_FAILURE, DagsterEventType.RUN_FAILURE}


def told_again(instance: dg.DagsterInstance, part: attempts.Part) -> str:
    """What the last failure said, in one line, as the end of a sentence about what waits; else nothing."""
    failed = _last(part)
    said = _said(instance, failed.run_id) if failed is not None and failed.run_id else None
    if said is None:
        return ""
    line = " ".join(json_lines.masked(said, json_lines.secrets(os.environ)).split())
    return f". Last time: {line if len(line) <= _LONGEST else f'{line[:_LONGEST]}…'}"


def in_lines(instance: dg.DagsterInstance, due: Iterable[Due], now: datetime) -> Iterator[str]:
    """What is due and failed: when it is asked for again, and why it failed; a line for what failed in one run.

    The lines of the first MOST_REASONS failures, and one that counts the others.
    """
    failed: dict[tuple[str, str, str], list[attempts.Part]] = {}
    for part in attempts.in_parts(instance, due):
        last = _last(part)
        if last is not None:
            waits = why_waits(part, now) or "failed as a part of more; tried again in parts"
            failed.setdefault((", ".join(part.due.assets), waits, last.run_id), []).append(part)
    for (assets, waits, _), parts in islice(failed.items(), MOST_REASONS):
        keys = keys_in_words({key for part in parts for key in part.due.keys})
        yield f"{f'{keys}, ' if keys else ''}{assets}: {waits}{told_again(instance, parts[0])}"
    if len(failed) > MOST_REASONS:
        yield f"and {len(failed) - MOST_REASONS} more that failed: `etl drain` names each"


def _last(part: attempts.Part) -> attempts.Attempt | None:
    return max(part.failures, key=lambda attempt: attempt.ended_at, default=None)


def why_waits(part: attempts.Part, now: datetime) -> str | None:
    """Why a part is not asked for again yet; None when it is, or was never tried."""
    if part.until == attempts.NEVER:
        return "failed for good; asked for again when its input or code changes, or by `etl retry`"
    if part.until is not None and part.until > now:
        times = len(attempts.failures_of([*part.above, *part.attempts]))
        what = f"failed {times} times" if times else "was built just now"
        return f"{what}, asked for again after {part.until:%Y-%m-%d %H:%M:%S} UTC"
    return None


def complaint(failure: StepFailureData) -> str:
    """What a failed step said: the words meant for a person where there are any, else the error at the bottom."""
    if failure.user_failure_data is not None and failure.user_failure_data.description:
        return failure.user_failure_data.description
    return plainest(failure.error) if failure.error is not None else "no reason given"


def plainest(error: Any) -> str:
    """The message in a chain of errors that is meant for a person (`reported` made it), else that at its bottom."""
    while error.cause is not None and error.cls_name != dg.Failure.__name__:
        error = error.cause
    message: str = error.message
    return message.removeprefix(f"{dg.Failure.__module__}.{dg.Failure.__name__}: ").strip()


def _said(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """The first failed step of the run; else why it could not begin, or what was noted when it was given up."""
    of_run = None
    for record in instance.get_records_for_run(run_id, of_type=_TELLING).records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        if event.is_step_failure:
            return complaint(event.step_failure_data)
        error = getattr(event.event_specific_data, "error", None)
        of_run = of_run or (plainest(error) if error is not None else event.message)
    return of_run
