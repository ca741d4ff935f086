"""The job that fetches objects of a bucket, and the sensor that asks for it. There are none without ETL_INCOMING.

Belongs here: asking for a pass and telling what it did. Does not belong here: the pass (`sources.bucket`). A sensor of
its own looks at the bucket, so that a server that is slow to answer never keeps the days of others waiting.
"""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

import hashlib
from typing import TYPE_CHECKING

import dagster as dg

from etl_project import utc
from etl_project.due import attempts
from etl_project.due.attempts import FETCH_JOB, WITHOUT_DAYS
from etl_project.failures import Transient
from etl_project.storage import reported

if TYPE_CHECKING:
    from etl_project.due.snapshot import Project
    from etl_project.sources import looking

LEAST_INTERVAL_SECONDS = 10
"""Each look is a listing a source, and these are paid for."""
_SHOWN = 20


class NotFetched(Transient):
    """Some objects could not be fetched, or not be sent back; they are where they were. Retrying helps."""


def fetch_jobs(project: "Project") -> list[dg.JobDefinition]:
    """A job of one pass over what waits in the bucket of ETL_INCOMING, if it is set."""
    if project.settings.incoming_url is None:
        return []
    from etl_project.sources import fetch  # noqa: PLC0415  # Needs an extra.

    @dg.op(description="Fetch objects into the drop folders; send back what was accepted or refused.")
    def fetch_all(context: dg.OpExecutionContext) -> None:
        with reported(context.instance, context.run_id):
            done = fetch.fetch(project.settings, project.sources)
            for line in [*done.told, done.in_words]:
                context.log.info(line)
            if done.problems:
                raise NotFetched("; ".join(some(done.problems)))

    @dg.job(name=FETCH_JOB, description=fetch_jobs.__doc__, tags=WITHOUT_DAYS)
    def job() -> None:
        fetch_all()

    return [job]


def fetch_sensors(project: "Project") -> list[dg.SensorDefinition]:
    """The sensor that asks for the job when there is something to fetch or to send back, if ETL_INCOMING is set."""
    if project.settings.incoming_url is None:
        return []
    from etl_project.sources import looking  # noqa: PLC0415  # Needs an extra.

    @dg.sensor(
        name="waiting_objects",
        job_name=FETCH_JOB,
        minimum_interval_seconds=max(LEAST_INTERVAL_SECONDS, project.settings.sensor_interval_seconds),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=fetch_sensors.__doc__,
    )
    def waiting_objects(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        seen = looking.look(project.settings, project.sources, utc.now())
        return request(seen, context.instance)

    return [waiting_objects]


def request(seen: "looking.Look", instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    """A run where there is something to do, or what waits and why, in words. After a failure the pauses grow."""
    told = [line for source in {**seen.seen, **seen.problems} for line in seen.notices(source)]
    to_do = sorted((source, one.state()) for source, one in seen.seen.items() if one.is_to_do)
    if not to_do:
        return dg.SkipReason("; ".join(some(told)) or "Nothing waits in the bucket.")
    if attempts.is_running(instance, FETCH_JOB):
        return dg.SkipReason("; ".join(["A run is fetching.", *some(told)]))
    state = f"objects:{hashlib.sha256(repr(to_do).encode()).hexdigest()}"
    earlier = attempts.attempts(instance, state)
    until = attempts.wait_until(earlier)
    if until is not None and until > utc.now():
        return dg.SkipReason("; ".join([f"Tried again after {until:%Y-%m-%d %H:%M:%S} UTC.", *some(told)]))
    return dg.RunRequest(run_key=f"{state}:{len(earlier)}", tags={attempts.STATE_TAG: state})


def some(lines: list[str]) -> list[str]:
    """The first of them, and how many more there are."""
    return [*lines[:_SHOWN], *([f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])]
