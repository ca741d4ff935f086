"""Execution: one run in this process, as a recorded Dagster run, and what came of it.

Belongs here: making a run of something due or asked for by hand, and reading off its events what failed, what was held
by somebody else and which checks are red. Does not belong here: deciding what to run (`drain`, `by_hand`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import dagster as dg
from dagster import EventLogEntry

from etl_project.due import attempts, stop
from etl_project.due.check_verdicts import RedCheck, is_red, red_check
from etl_project.due.failure_words import complaint, plainest
from etl_project.due.pending import Due
from etl_project.due.snapshot import Project
from etl_project.exclusion import processes, run_lock
from etl_project.failures import OUTAGES, WHOLE_TAG
from etl_project.instance import json_logs

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run config: failures are told by the caller and kept in the instance, with their stack traces."""

_LOCKED = ("LockBusy", "WrongHost")
"""Failures of the run's lock, before anything was read: other runs can go on. All others hold a whole store."""


@dataclass(frozen=True)
class Deployment:
    """A loaded project and the Dagster instance that records its runs."""

    project: Project
    jobs: Mapping[str, dg.JobDefinition]
    instance: dg.DagsterInstance
    on_step: Callable[[str], None] = lambda _key: None
    """Told of each step of a run as it ends."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: what its failed steps said, nothing when it went well; and what its checks found.

    `held_by_others`: the kind of failure where somebody else held what the run needed.
    """

    complaints: tuple[str, ...] = ()
    held_by_others: str | None = None
    red_checks: tuple[RedCheck, ...] = ()
    passed_checks: tuple[tuple[str, str, str | None], ...] = ()
    seconds: float = 0.0
    """How long the run took."""
    without_answer: frozenset[str] = frozenset()
    """The steps that failed because somebody outside answers nobody; they would fail for any other days, too."""

    @property
    def success(self) -> bool:
        """Whether every step went well."""
        return not self.complaints

    @property
    def store_is_busy(self) -> bool:
        """Whether a whole store was held, so that no other run would get any further now."""
        return self.held_by_others is not None and self.held_by_others not in _LOCKED


def execute(deployment: Deployment, one: Due, more_tags: Mapping[str, str] = MappingProxyType({})) -> Ended:
    """Make one due run here, as a recorded Dagster run.

    SIGTERM and Ctrl-C raise Stopped, or KeyboardInterrupt, once the step that is being executed has been broken off and
    the run's lock is released; the run is cancelled then, so that nothing seems to go on.
    """
    owner, began = processes.this_process(), time.monotonic()
    with _cancelled_if_stopped(deployment) as run_id:
        deployment.instance.add_event_listener(run_id, partial(_tell, deployment.on_step))
        result = deployment.jobs[one.job].execute_in_process(
            instance=deployment.instance,
            run_config=json_logs.run_config(QUIET),
            asset_selection=[dg.AssetKey.from_user_string(asset) for asset in one.assets],
            tags={**more_tags, **attempts.tags(one), **run_lock.owner_tag(owner)},
            run_id=run_id,
            raise_on_error=False,
        )
    return replace(_ended(deployment, result), seconds=time.monotonic() - began)


def _tell(on_step: Callable[[str], None], event: EventLogEntry) -> None:
    if event.dagster_event_type is dg.DagsterEventType.STEP_SUCCESS and event.step_key is not None:
        on_step(event.step_key)


@contextmanager
def _cancelled_if_stopped(deployment: Deployment) -> Iterator[str]:
    """The id for a run that the block makes; it is cancelled where a signal ends the block."""
    run_id = str(uuid.uuid4())
    try:
        with stop.afterwards(), run_lock.announced(run_id, deployment.project.settings.wait_seconds):
            yield run_id
    except KeyboardInterrupt:
        attempts.cancel(deployment.instance, run_id)
        raise


def _ended(deployment: Deployment, result: dg.ExecuteInProcessResult) -> Ended:
    """What came of a run."""
    evaluations = _each(result.get_asset_check_evaluations())
    red = tuple(red_check(each) for each in evaluations if is_red(each))
    if result.success:
        passed = (each for each in evaluations if each.passed)
        keys = tuple((each.asset_key.to_user_string(), each.check_name, each.partition) for each in passed)
        return Ended(red_checks=red, passed_checks=keys)
    run = deployment.instance.get_run_by_id(result.run_id)
    whole = run.tags.get(WHOLE_TAG) if run else None
    if whole in OUTAGES:
        steps = frozenset(str(event.step_key) for event in result.get_step_failure_events())
        return Ended(complaints_of(result), red_checks=red, without_answer=steps)
    return Ended(complaints_of(result), whole, red)


def complaints_of(result: dg.ExecuteInProcessResult) -> tuple[str, ...]:
    """What the failed steps of a run said, each naming its asset; nothing where it went well."""
    if result.success:
        return ()
    failures = tuple(map(_said, result.get_step_failure_events()))
    return failures or tuple(_before_the_first_step(result)) or ("the run failed before its first step",)


def _said(event: dg.DagsterEvent) -> str:
    """What a failed step said, with its asset before what is not meant for a person and may not name it."""
    words = complaint(event.step_failure_data)
    if event.step_failure_data.user_failure_data is not None:
        return words
    asset = str(event.step_key).replace("__", "/")  # Dagster's word for an asset's step.
    return words if asset in words else f"{asset}: {words}"


def _each(evaluations: Sequence[dg.AssetCheckEvaluation]) -> list[dg.AssetCheckEvaluation]:
    """The results without the sum over partitions, where each partition has one of its own."""
    by_partition = {one.asset_check_key for one in evaluations if one.partition is not None}
    return [one for one in evaluations if one.partition is not None or one.asset_check_key not in by_partition]


def refuse_undated(deployment: Deployment, files: int) -> int:
    """Put files that belong to no day into quarantine, by a run of its own; how many there were."""
    return files if _without_days(deployment, attempts.REFUSE_JOB).success else 0


def take_in_many_days(deployment: Deployment) -> Sequence[str]:
    """Take in files whose rows say their day, by a run of its own; why some could not be, if any."""
    return _ended(deployment, _without_days(deployment, attempts.MANY_DAYS_JOB)).complaints


def _without_days(deployment: Deployment, job: str) -> dg.ExecuteInProcessResult:
    """A run of a job that builds no day; a signal ends it as it ends one that does."""
    with _cancelled_if_stopped(deployment) as run_id:
        return deployment.jobs[job].execute_in_process(
            instance=deployment.instance,
            run_config=json_logs.run_config(QUIET),
            tags=run_lock.owner_tag(processes.this_process()),
            run_id=run_id,
            raise_on_error=False,
        )


def _before_the_first_step(result: dg.ExecuteInProcessResult) -> Iterator[str]:
    """Why a run failed while it was set up: a lock that others hold, a resource that cannot be made."""
    for event in result.all_events:
        data: Any = event.event_specific_data
        error = getattr(data, "error", None)
        if event.is_resource_init_failure and error is not None:
            yield plainest(error)
            return
