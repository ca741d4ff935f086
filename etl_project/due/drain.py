"""Drain: run what is pending in this process until nothing is.

For cron jobs, tests and the demo. The runs are real Dagster runs, recorded in the instance, and exactly those that the
sensor would ask for. A kill anywhere leaves what was committed; the next drain goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import dagster as dg
from dagster._core.execution.plan.objects import StepFailureData

from etl_project import utc
from etl_project.due import attempts
from etl_project.due.pending import Due
from etl_project.due.snapshot import Project, Snapshot, due, look, tidy
from etl_project.exclusion import processes, run_lock
from etl_project.instance import json_logs
from etl_project.storage.dagster.io_manager import ALLOW_SHRINK_TAG

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run config: failures are told by the caller and kept in the instance, with their stack traces."""

MOST_FAILURES_IN_A_ROW = 20
"""More than it takes to find the bad day of years: such a row is an outage, and every further run would only fail."""


@dataclass(frozen=True)
class Deployment:
    """A loaded project and the Dagster instance that records its runs."""

    project: Project
    jobs: Mapping[str, dg.JobDefinition]
    instance: dg.DagsterInstance


@dataclass
class Drained:
    """What a drain did: runs that went well, runs that failed, and files it put into quarantine."""

    succeeded: list[Due] = field(default_factory=list)
    failed: list[Due] = field(default_factory=list)
    gave_up: list[Due] = field(default_factory=list)
    refused_undated: int = 0
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Sources whose drop folder could not be read, and why."""
    passed_over: list[str] = field(default_factory=list)
    """What is no file to take in, or cannot be removed, in words."""
    being_written: list[str] = field(default_factory=list)
    """Files that were not taken because a process has them open for writing, in words."""
    failures_in_a_row: int = 0

    @property
    def runs(self) -> int:
        """How many runs were made."""
        return len(self.succeeded) + len(self.failed)

    def note(self, one: Due, ended: Ended) -> None:
        """Count a run that ended."""
        (self.succeeded if ended.success else self.failed).append(one)
        self.failures_in_a_row = 0 if ended.success else self.failures_in_a_row + 1


OnRun = Callable[[Due, "Ended | None"], None]
"""Told of each run before it starts (None) and after it ended."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: what its failed steps said, nothing when it went well."""

    complaints: tuple[str, ...] = ()

    @property
    def success(self) -> bool:
        """Whether every step went well."""
        return not self.complaints


def drain(deployment: Deployment, on_run: OnRun = lambda _due, _ended: None, *, allow_shrink: bool = False) -> Drained:
    """Bring every commit in line with its inputs. A state that failed before is tried once, a permanent failure not.

    Of a range that fails the halves are tried at once, and so on: in the end only the days at fault are left. Nothing
    is tried any more once MOST_FAILURES_IN_A_ROW runs have failed: then it is not the days that are at fault.
    `allow_shrink` lets days lose more rows than `max_removed_ratio` allows, and tries again what failed for good.

    Raises StoreBusy (retrying helps) when another process holds the warehouse for longer than the wait setting.
    """
    project, instance = deployment.project, deployment.instance
    attempts.bury_the_dead(instance)
    done = Drained()
    tried: set[str] = set()
    while True:
        snapshot = _settled(project)
        done.unreadable = snapshot.unreadable
        done.passed_over = [*snapshot.passed_over, *tidy(project, snapshot)]
        done.being_written = snapshot.being_written
        if snapshot.undated:
            done.refused_undated += _refuse_undated(deployment, snapshot)
        asks: list[Due] = []
        for one in due(project, snapshot):
            now = _to_try(instance, one, tried, for_good_too=allow_shrink)
            asks += now.asks
            done.gave_up += now.gave_up
        if not asks:
            return done
        for one in asks:
            if done.failures_in_a_row == MOST_FAILURES_IN_A_ROW:
                return done
            tried.add(one.state)
            on_run(one, None)
            ended = execute(deployment, one, {ALLOW_SHRINK_TAG: "true"} if allow_shrink else {})
            done.note(one, ended)
            on_run(one, ended)


class _ToTry(NamedTuple):
    asks: list[Due]
    gave_up: list[Due]


def _to_try(instance: dg.DagsterInstance, one: Due, tried: set[str], *, for_good_too: bool) -> _ToTry:
    """What to run of something due: the whole, or of a range that failed already what is left to try of its halves."""
    failures = attempts.failures_of(attempts.attempts(instance, one.state))
    permanent = any(attempt.permanent for attempt in failures)
    if one.state not in tried and (for_good_too or not permanent):
        return _ToTry([one], [])
    halves = one.halves() if failures else ()
    if not halves:
        gave_up = one.state not in tried
        tried.add(one.state)
        return _ToTry([], [one] if gave_up else [])
    parts = [_to_try(instance, half, tried, for_good_too=for_good_too) for half in halves]
    return _ToTry([ask for part in parts for ask in part.asks], [left for part in parts for left in part.gave_up])


def execute(deployment: Deployment, one: Due, more_tags: Mapping[str, str] = MappingProxyType({})) -> Ended:
    """Make one due run here, as a recorded Dagster run. An interrupt leaves no run that seems to go on."""
    owner = processes.this_process()
    try:
        result = deployment.jobs[attempts.DAYS_JOB].execute_in_process(
            instance=deployment.instance,
            run_config=json_logs.run_config(QUIET),
            asset_selection=[dg.AssetKey.from_user_string(asset) for asset in one.assets],
            tags={**more_tags, **attempts.tags(one), **run_lock.owner_tag(owner)},
            raise_on_error=False,
        )
    except KeyboardInterrupt:
        attempts.cancel_unfinished_of(deployment.instance, owner)
        raise
    if result.success:
        return Ended()
    failures = [event.step_failure_data for event in result.get_step_failure_events()]
    return Ended(tuple(map(_complaint, failures)) or ("the run failed before its first step",))


def _complaint(failure: StepFailureData) -> str:
    """What a failed step said: the words meant for a person where there are any, else the innermost error."""
    if failure.user_failure_data is not None and failure.user_failure_data.description:
        return failure.user_failure_data.description
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "no reason given"


def _settled(project: Project) -> Snapshot:
    """One look, after giving files that are still too young the time to settle once."""
    snapshot = look(project, utc.now())
    if snapshot.unsettled:
        time.sleep(project.settings.settle_seconds)
        snapshot = look(project, utc.now())
    return snapshot


def _refuse_undated(deployment: Deployment, snapshot: Snapshot) -> int:
    """Put files that belong to no day into quarantine, by a run of its own; how many there were."""
    result = deployment.jobs[attempts.REFUSE_JOB].execute_in_process(
        instance=deployment.instance,
        run_config=json_logs.run_config(QUIET),
        tags=run_lock.owner_tag(processes.this_process()),
        raise_on_error=False,
    )
    return sum(map(len, snapshot.undated.values())) if result.success else 0
