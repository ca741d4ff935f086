"""Sensor and schedule: thin shells that ask Dagster for what `pending()` says is due."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from etl_project import partitions, runs
from etl_project.pending import Due
from etl_project.situation import Project, Situation, due, look
from etl_project.storage import StoreBusy

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
        runs.bury_the_dead(context.instance)
        try:
            situation = look(project, partitions.now(), wait=False)
        except StoreBusy as busy:
            return dg.SkipReason(f"A run holds the warehouse; the next tick looks again. {busy}")
        requests, held = decide(project, situation, context.instance)
        requests += refusals(situation)
        if requests:
            return dg.SensorResult(run_requests=requests)
        return dg.SkipReason("; ".join(held) or "Nothing is pending: every commit is in line with its inputs.")

    return pending_days


def decide(
    project: Project, situation: Situation, instance: dg.DagsterInstance, closing: date | None = None
) -> tuple[list[dg.RunRequest], list[str]]:
    """The runs to ask for now, and why the other due ones have to wait."""
    requests, held = [], []
    flights = runs.in_flight(instance)
    for one in due(project, situation, closing):
        label = f"{one.first} to {one.last}"
        if any(flight.touches(one) for flight in flights):
            held.append(f"{label}: a run is working on it")
            continue
        earlier = runs.attempts(instance, one.state)
        until = runs.wait_until(earlier)
        if until == runs.NEVER:
            held.append(f"{label}: failed for good; asked for again when its input or code changes")
        elif until is not None and until > situation.at:
            held.append(f"{label}: failed {len(earlier)} times, asked for again after {until:%Y-%m-%d %H:%M:%S} UTC")
        else:
            requests.append(request(one, attempt=len(earlier)))
    return requests, held


def request(one: Due, attempt: int) -> dg.RunRequest:
    """The run request of a due run. Dagster remembers a run key for ever, so it names the state and the attempt."""
    return dg.RunRequest(
        run_key=f"{one.state}:{attempt}",
        job_name=runs.DAYS_JOB,
        asset_selection=[dg.AssetKey.from_user_string(asset) for asset in one.assets],
        tags=runs.tags(one),
    )


def refusals(situation: Situation) -> list[dg.RunRequest]:
    """One run that puts files without a usable date into quarantine, if there are any."""
    if not situation.undated:
        return []
    files = sorted((name, file.entry) for name, found in situation.undated.items() for file in found)
    key = hashlib.sha256(repr(files).encode()).hexdigest()
    return [dg.RunRequest(run_key=f"undated:{key}", job_name=runs.REFUSE_JOB)]


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
            situation = look(project, partitions.now())
        except StoreBusy as busy:
            return dg.SkipReason(f"A run holds the warehouse; the sensor asks for {day} later. {busy}")
        requests, held = decide(project, situation, context.instance, closing=day)
        covering = [one for one in requests if _covers(one, day)]
        return covering or dg.SkipReason("; ".join(held) or _why_not(project, situation, day))

    return closed_day


def _covers(request: dg.RunRequest, day: date) -> bool:
    days = partitions.days_of_run(request.tags)
    return days is not None and days[0] <= day <= days[1]


def _why_not(project: Project, situation: Situation, day: date) -> str:
    """Why nothing is asked for a closed day: it is done, or its files are missing."""
    missing = [
        spec.name
        for spec in project.sources
        if day not in situation.sources[spec.name].accepted and spec.empty_days == "missing"
    ]
    if missing:
        return f"{day} is missing: no file was accepted for {', '.join(missing)}. It is not written as empty."
    return f"{day} is committed, and nothing it was built from has changed."
