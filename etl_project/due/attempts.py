"""Which of the due runs to ask Dagster for now, given what became of earlier ones.

A failure that retrying can help is asked for again with growing pauses; a permanent one only when its state (input or
code) changes. A range that fails is asked for in halves, so that in the end only the days at fault stay behind. Belongs
here: that decision, run tags, and clearing up after processes that died in the middle of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, product

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from etl_project import utc
from etl_project.due.graph import DAYS_JOB
from etl_project.due.pending import Due
from etl_project.exclusion import run_lock
from etl_project.failures import FAILURE_TAG, WHOLE_TAG

__all__ = ["DAYS_JOB", "REFUSE_JOB", "Attempt", "Flight", "Part"]

REFUSE_JOB = "refuse_undated_files"
"""The job that puts files which belong to no day into quarantine."""
FETCH_JOB = "fetch_objects"
"""The job that brings objects of a bucket into the drop folders, and what became of them back."""
MANY_DAYS_JOB = "take_in_files_of_many_days"
"""The job that takes in files whose rows say their day; it builds no day of any asset."""
STATE_TAG = ".dagster/etl_state"
"""Run tag: what made the run due; the same state is the same request. Hidden from the UI's lists of runs."""
STATE_TAGS = (STATE_TAG, "etl/state")
"""The second one is that of runs which an older version made."""
SPAN_TAG = "etl/partitions"
"""Run tag: the first and the last partition of a range, for a person."""
WITHOUT_DAYS = {"etl/without_days": "true"}
"""Tags of a job that builds no day of any asset: its runs are in nobody's way."""
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)
FAILURES_OF_A_WHOLE = 2
"""So often a range may fail before its halves are tried, where retrying may help: a full disk is no day's fault."""
_STATES_A_QUERY = 500
_UNFINISHED = [*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.NOT_STARTED]
NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Attempt:
    """A finished earlier run for the same state. `splits`: whether its halves could go better; not after a stop.
    `run_id`: which run, where somebody wants to know what it said."""

    permanent: bool
    failed: bool
    ended_at: datetime
    splits: bool = True
    run_id: str = ""


@dataclass(frozen=True)
class Flight:
    """A run that has not finished: its assets (None: unknown, so all) and its first and last partition key (None: no
    partitions, or all of them)."""

    assets: frozenset[str] | None
    keys: tuple[str, str] | None

    def touches(self, due: Due) -> bool:
        """Whether this run may be working on what is due. Keys of another form than those that are due are others."""
        if self.assets is not None and self.assets.isdisjoint(due.assets):
            return False
        if self.keys is None:
            return True
        first, last = str(due.first), str(due.last)
        if utc.is_day(first) != utc.is_day(self.keys[0]):
            return False
        return self.keys[0] <= last and first <= self.keys[1]


def tags(due: Due) -> dict[str, str]:
    """The run tags of a due run. Dagster's list of runs hides the tags of a range, so it has one that is shown."""
    shown = {SPAN_TAG: due.span} if due.first != due.last else {}
    own = utc.run_tags(due.first, due.last, due.dimensions) if due.first else {}
    return {STATE_TAG: due.state, **shown, **own}


def is_asked_for(run: dg.DagsterRun) -> bool:
    """Whether sensor, schedule or drain asked for the run, this version's or an older one's; else a person did."""
    return any(tag in run.tags for tag in STATE_TAGS)


def wait_until(attempts: Sequence[Attempt]) -> datetime | None:
    """When to ask for a state again: None at once, NEVER as long as it is the same.

    A success settles what failed before it. It is an attempt itself: what is due again right after it waits, too.
    """
    failures = failures_of(attempts)
    if any(attempt.permanent for attempt in failures):
        return NEVER
    if not attempts:
        return None
    doublings = min(max(len(failures), 1), 12) - 1
    pause = min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
    return max(attempt.ended_at for attempt in attempts) + pause


def failures_of(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts that failed since the last one that went well."""
    settled = max((attempt.ended_at for attempt in attempts if not attempt.failed), default=None)
    return [attempt for attempt in attempts if attempt.failed and (settled is None or attempt.ended_at > settled)]


@dataclass(frozen=True)
class Part:
    """What to ask for in one run: something due, or a half (of a half) of it, and what became of it earlier.

    `above`: the failures of the ranges that it is a half of; it waits as long as they would. `split`: those for good,
    for which it is a half; they say nothing of when it is tried.
    """

    due: Due
    attempts: Sequence[Attempt]
    above: Sequence[Attempt] = ()
    split: Sequence[Attempt] = ()

    @property
    def failures(self) -> list[Attempt]:
        """What failed of it, alone or within a range, since it last went well."""
        return [*self.split, *failures_of([*self.above, *self.attempts])]

    @property
    def until(self) -> datetime | None:
        """As `wait_until`."""
        return wait_until([*self.above, *self.attempts])


def in_parts(instance: dg.DagsterInstance, asked: Iterable[Due], patience: int = FAILURES_OF_A_WHOLE) -> list[Part]:
    """What is due, with every range that failed for good, or `patience` times, as its two halves, and these likewise.

    This is the one policy of trying again. The sensor also keeps the pauses of each part; a drain, which nobody waits
    with, tries each part once, and so has the patience for one failure.
    """
    found: list[Part] = []
    left = [Part(one, ()) for one in asked]
    while left:
        earlier = attempts_of(instance, (part.due.state for part in left))
        halves: list[Part] = []
        for part in left:
            tried = earlier[part.due.state]
            smaller = part.due.halves() if to_be_split(tried, patience) else ()
            failed = failures_of(tried)
            above = [*part.above, *(attempt for attempt in failed if not attempt.permanent)]
            split = [*part.split, *(attempt for attempt in failed if attempt.permanent)]
            halves += [Part(half, (), above, split) for half in smaller]
            if not smaller:
                found.append(Part(part.due, tried, part.above, part.split))
        left = halves
    return sorted(found, key=lambda part: part.due.order)


def states_of(instance: dg.DagsterInstance, asked: Iterable[Due]) -> set[str]:
    """Every state that deciding on this may ask about: those that are due, and those of the halves of what failed."""
    found: set[str] = set()
    left = list(asked)
    while left:
        earlier = attempts_of(instance, (due.state for due in left))
        found |= earlier.keys()
        left = [half for due in left if to_be_split(earlier[due.state], 1) for half in due.halves()]
    return found


def to_be_split(attempts: Sequence[Attempt], patience: int = FAILURES_OF_A_WHOLE) -> bool:
    """Whether a range with these attempts is asked for in halves from now on."""
    failures = [attempt for attempt in failures_of(attempts) if attempt.splits]
    return len(failures) >= patience or any(attempt.permanent for attempt in failures)


def attempts(instance: dg.DagsterInstance, state: str) -> list[Attempt]:
    """The finished runs that were asked for with this state."""
    return attempts_of(instance, [state])[state]


def attempts_of(instance: dg.DagsterInstance, states: Iterable[str]) -> dict[str, list[Attempt]]:
    """The finished runs that were asked for with each of these states; two queries for many."""
    found: dict[str, list[Attempt]] = {state: [] for state in states}
    for some, tag in product(_batched(found, _STATES_A_QUERY), STATE_TAGS):
        for record in instance.get_run_records(filters=dg.RunsFilter(tags={tag: some})):
            run = record.dagster_run
            if run.is_finished:
                attempt = Attempt(
                    permanent=run.tags.get(FAILURE_TAG) == "permanent" and WHOLE_TAG not in run.tags,
                    failed=run.status is not dg.DagsterRunStatus.SUCCESS,
                    ended_at=ended_at(record),
                    splits=WHOLE_TAG not in run.tags and run.status is not dg.DagsterRunStatus.CANCELED,
                    run_id=run.run_id,
                )
                found[run.tags[tag]].append(attempt)
    return found


def ended_at(record: dg.RunRecord) -> datetime:
    """When the run ended, by the clock of the machine that executed it; where that one is ahead, when it was asked for.

    Otherwise every pause after it would be longer by as much.
    """
    ended = record.update_timestamp.astimezone(UTC)
    return ended if ended <= utc.now() else record.create_timestamp.astimezone(UTC)


def _batched(values: Iterable[str], size: int) -> Iterator[list[str]]:
    """The values in lists of at most `size`."""
    left = iter(values)
    while some := list(islice(left, size)):
        yield some


def in_flight(instance: dg.DagsterInstance) -> list[Flight]:
    """The runs that are queued or running and build days, whoever asked for them."""
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=_UNFINISHED))
    return [
        Flight(_assets_of(instance, run), utc.keys_of_run(run.tags))
        for run in runs
        if not run.tags.items() >= WITHOUT_DAYS.items()
    ]


def is_running(instance: dg.DagsterInstance, job: str) -> bool:
    """Whether a run of this job is queued or under way."""
    return bool(instance.get_runs(filters=dg.RunsFilter(job_name=job, statuses=_UNFINISHED), limit=1))


def cancel(instance: dg.DagsterInstance, run_id: str) -> None:
    """Mark a run as cancelled: it was interrupted, nobody will go on with it, and its days are not at fault."""
    run = instance.get_run_by_id(run_id)
    broken_off = run is not None and run.status is dg.DagsterRunStatus.FAILURE and FAILURE_TAG not in run.tags
    if run is not None and (broken_off or not run.is_finished):
        instance.report_run_canceled(run, message="Interrupted. What it had committed stays committed.")


def _assets_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> frozenset[str] | None:
    """The assets that a run may build: those it was asked for, else those of its plan; None where nobody knows."""
    if run.asset_selection is not None:
        return frozenset(key.to_user_string() for key in run.asset_selection)
    return run_lock.planned_assets(instance, run) if run.execution_plan_snapshot_id is not None else None


def bury_the_dead(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs as failed whose processes died without a word; their ids. What they had committed stays committed.

    A run that its process had not even started counts: it would be in the way of its days for ever.
    """
    buried = []
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=_UNFINISHED)):
        if not run_lock.may_be_at_work(run):
            instance.report_run_failed(run, "The process of this run died. What it had committed stays committed.")
            buried.append(run.run_id)
    return buried
