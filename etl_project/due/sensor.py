"""Sensor and schedule: thin shells that ask Dagster for what `pending()` says is due."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import NamedTuple

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from etl_project import utc
from etl_project.due import attempts, check_verdicts, failure_words, many_days, watching, words
from etl_project.due.following import by_hand
from etl_project.due.pending import Due
from etl_project.due.snapshot import Project, Snapshot, first_day_of, look, outlook, tidy
from etl_project.instance import told_checks
from etl_project.sources import Names, completeness
from etl_project.storage import StoreBusy

MOST_REQUESTS = 50
"""Dagster makes a run of each request within the tick, some tens of milliseconds each."""

MOST_REASONS = failure_words.MOST_REASONS
"""So many reasons for waiting are told; `etl status` tells them all."""

_AT_WORK = "a run is working on it"

NOTHING = "Nothing is pending: every commit is in line with its inputs."

WATCH_HELD_SECONDS = 4.0
"""So long a tick waits for files at the most while something waits for its time or for a run: the next tick, which
Dagster begins every five seconds, has to see whether it may go on."""

LONGEST_WAIT_SECONDS = 20
"""Dagster ends an evaluation after a minute. The schedule must have said by then why it asks for nothing."""

Job = dg.JobDefinition | UnresolvedAssetJobDefinition


def pending_sensor(project: Project, jobs: Sequence[Job]) -> dg.SensorDefinition:
    """Asks for every day that is due: new or corrected files, a table rebuilt by hand, whatever a crash left over."""

    @dg.sensor(
        name="pending_days",
        jobs=list(jobs),
        minimum_interval_seconds=project.settings.sensor_interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=pending_sensor.__doc__,
    )
    def pending_days(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        began = time.monotonic()
        attempts.bury_the_dead(context.instance)
        try:
            snapshot = look(project, utc.now(), context.instance, wait=False)
            asked = _ask(project, context, snapshot)
            until = began + _watch_seconds(project, context, asked)
            if until > began and watching.something_came(project, snapshot, until):
                asked = _ask(project, context, look(project, utc.now(), context.instance, wait=False))
        except StoreBusy as busy:
            return dg.SkipReason(f"A run holds the warehouse; the next tick looks again. {busy}")
        return asked

    return pending_days


def _watch_seconds(
    project: Project, context: dg.SensorEvaluationContext, asked: dg.SensorResult | dg.SkipReason
) -> float:
    """So long from its begin the tick waits for files. Not at all where it asks for something, nor where it is
    evaluated outside of Dagster's code server, which gives each tick a log."""
    if not isinstance(asked, dg.SkipReason) or context.log_key is None:
        return 0.0
    is_quiet = (asked.skip_message or "").startswith(NOTHING)
    return project.settings.watch_seconds if is_quiet else min(project.settings.watch_seconds, WATCH_HELD_SECONDS)


def _ask(project: Project, context: dg.SensorEvaluationContext, snapshot: Snapshot) -> dg.SensorResult | dg.SkipReason:
    """What to ask for in this snapshot, or why not."""
    requests, held = decide(project, snapshot, context.instance, checks=_checks(project, context))
    held += [*snapshot.held_up, *tidy(project, snapshot)]
    to_refuse, why_not = refusals(snapshot, context.instance)
    to_take, why_not_taken = many_days.requests(snapshot, context.instance)
    requests += [*to_refuse, *to_take]
    held += [*why_not, *why_not_taken, *_not_shown_yet(project, snapshot)]
    told = completeness_news(project, snapshot, context.cursor)
    if requests or told.events:
        told_checks.make_room(context.instance, told.events)
        return dg.SensorResult(run_requests=requests, asset_events=told.events, cursor=told.cursor)
    return dg.SkipReason("; ".join([*(held[:MOST_REASONS] or [NOTHING]), *_more(held), *by_hand(project.nodes)]))


def _not_shown_yet(project: Project, snapshot: Snapshot) -> list[str]:
    """That there are days before the first one that the UI shows; runs load the code anew, and know them."""
    first = first_day_of(project.settings, snapshot, project.nodes)
    if project.first_day is None or project.first_day <= first:
        return []
    return [f"The UI shows days from {project.first_day} on; those from {first} on after “Reload definitions”."]


def decide(
    project: Project,
    snapshot: Snapshot,
    instance: dg.DagsterInstance,
    closing: date | None = None,
    checks: Collection[dg.AssetCheckKey] | None = None,
) -> tuple[list[dg.RunRequest], list[str]]:
    """The runs to ask for now, and why the other due ones have to wait.

    At most MOST_REQUESTS at once: a tick has to end within a minute, whatever waits; the next one goes on from there.
    """
    requests: list[dg.RunRequest] = []
    held: list[str] = []
    flights = attempts.in_flight(instance)
    red = check_verdicts.red(project.nodes, snapshot.commits, instance)
    ahead = outlook(project, snapshot, closing, red=red)
    for part in attempts.in_parts(instance, ahead.due):
        waits = _why_held(part, flights, snapshot.at)
        if waits is not None:
            why = failure_words.told_again(instance, part) if waits != _AT_WORK and len(held) < MOST_REASONS else ""
            held.append(f"{part.due.span}, {', '.join(part.due.assets)}: {waits}{why}")
        elif len(requests) < MOST_REQUESTS:
            requests.append(request(part.due, attempt=len(part.attempts), checks=checks))
    return requests, [*held, *words.of_held(ahead), *snapshot.gone_in_words]


def _more(held: Sequence[str]) -> list[str]:
    return [f"and {len(held) - MOST_REASONS} more, see `etl status`"] if len(held) > MOST_REASONS else []


def _why_held(part: attempts.Part, flights: Sequence[attempts.Flight], now: datetime) -> str | None:
    """Why a due run is not asked for now; None when it is."""
    if any(flight.touches(part.due) for flight in flights):
        return _AT_WORK
    return failure_words.why_waits(part, now)


def request(one: Due, attempt: int, checks: Collection[dg.AssetCheckKey] | None = None) -> dg.RunRequest:
    """The run request of a due run. Dagster remembers a run key for ever, so it names the state and the attempt.

    `checks` are those that may run along (None: every check of these assets).
    """
    assets = [dg.AssetKey.from_user_string(asset) for asset in one.assets]
    return dg.RunRequest(
        run_key=f"{one.state}:{attempt}",
        job_name=one.job,
        asset_selection=assets,
        asset_check_keys=None if checks is None else [key for key in checks if key.asset_key in assets],
        tags=attempts.tags(one),
    )


def _checks(
    project: Project, context: dg.SensorEvaluationContext | dg.ScheduleEvaluationContext
) -> list[dg.AssetCheckKey] | None:
    """The checks of the days' job: a run of selected assets would take along those that the job leaves out."""
    repository = None
    with suppress(dg.DagsterInvariantViolationError):  # Evaluated on its own, outside of a code location.
        repository = context.repository_def
    if repository is None:
        return None
    jobs = {node.job for node in project.nodes} | {attempts.DAYS_JOB}
    graphs = (repository.get_job(name).asset_layer.asset_graph for name in sorted(jobs))
    return sorted(key for graph in graphs for key in graph.asset_check_keys)


def refusals(snapshot: Snapshot, instance: dg.DagsterInstance) -> tuple[list[dg.RunRequest], list[str]]:
    """One run that puts files without a usable date into quarantine, if there are any, or why it has to wait.

    What could not be moved is asked for again with growing pauses.
    """
    if not snapshot.undated:
        return [], []
    files = sorted((name, file.entry) for name, found in snapshot.undated.items() for file in found)
    state = f"undated:{hashlib.sha256(repr(files).encode()).hexdigest()}"
    earlier = attempts.attempts(instance, state)
    until = attempts.wait_until(earlier)
    if until is not None and until > snapshot.at:
        return [], [f"files without a day could not be moved; tried again after {until:%Y-%m-%d %H:%M:%S} UTC"]
    tags = {attempts.STATE_TAG: state}
    return [dg.RunRequest(run_key=f"{state}:{len(earlier)}", job_name=attempts.REFUSE_JOB, tags=tags)], []


_TOLD = "overdue days by source"
"""In the cursor: what was told day by day. Cursors of versions that told the days of a source together lack it."""


class News(NamedTuple):
    """Check results to record, and what the sensor remembers of having told them."""

    events: list[dg.AssetCheckEvaluation]
    cursor: str | None


def completeness_news(project: Project, snapshot: Snapshot, cursor: str | None) -> News:
    """A check result for every day of a source that got overdue since the last tick, or is overdue no more.

    A day gets overdue although nothing runs, so no run can tell. A lost cursor only tells the same once more.
    """
    told = json.loads(cursor).get(_TOLD, {}) if cursor else {}
    events, now = [], {}
    for spec in project.sources:
        if spec.deadline is None:
            continue
        days = now[spec.name] = [str(day) for day in snapshot.overdue(spec)]
        before = told.get(spec.name, [])
        events += [_overdue(spec.name, day, day in days) for day in sorted({*days} ^ {*before})]
    return News(events, json.dumps({_TOLD: now}) if now else cursor)


def _overdue(source: str, day: str, overdue: bool) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(Names.of(source).files),
        check_name=completeness.CHECK,
        passed=not overdue,
        description=completeness.OVERDUE if overdue else None,
        partition=day,
    )


def closed_day_schedule(project: Project, job: Job) -> dg.ScheduleDefinition:
    """At 00:30 UTC asks for the day that just closed; a day without a file is skipped, unless its source allows it."""

    @dg.schedule(
        name="closed_day",
        job=job,
        cron_schedule="30 0 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=closed_day_schedule.__doc__,
    )
    def closed_day(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        day = context.scheduled_execution_time.date() - timedelta(days=1)
        try:
            snapshot = look(project, utc.now(), context.instance, longest_wait_seconds=LONGEST_WAIT_SECONDS)
        except StoreBusy as busy:
            return dg.SkipReason(f"A run holds the warehouse; the sensor asks for {day} later. {busy}")
        requests, held = decide(project, snapshot, context.instance, closing=day, checks=_checks(project, context))
        # A schedule belongs to one job: what has other partitions, the sensor asks for.
        covering = [one for one in requests if one.job_name == attempts.DAYS_JOB and _covers(one, day)]
        return covering or dg.SkipReason("; ".join([*held, *snapshot.held_up]) or _why_not(project, snapshot, day))

    return closed_day


def _covers(request: dg.RunRequest, day: date) -> bool:
    days = utc.days_of_run(request.tags)
    return days is not None and days[0] <= day <= days[1]


def _why_not(project: Project, snapshot: Snapshot, day: date) -> str:
    """Why nothing is asked for a closed day: it is done, or its files are missing."""
    missing = [
        spec.name
        for spec in project.sources
        if day not in snapshot.sources[spec.name].accepted and spec.empty_days == "missing"
    ]
    if missing:
        return f"{day} is missing: no file was accepted for {', '.join(missing)}. It is not written as empty."
    return f"{day} is committed, and nothing it was built from has changed."
