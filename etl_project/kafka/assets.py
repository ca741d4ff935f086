"""What a Kafka source adds in Dagster: a job that lands what is there, its schedule, and the check that no offset is
missing.

Thin shells over `landing` and `offsets`. The landing is a job without assets of its own: it has no days, and what it
brings becomes days only where files are taken in. Its numbers are noted on the files asset, where they can be plotted.
"""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from datetime import datetime
from itertools import takewhile

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from etl_project import settings, utc
from etl_project.due import attempts
from etl_project.failures import FAILURE_TAG, EtlError
from etl_project.kafka import extra, offsets
from etl_project.kafka import settings as kafka_settings
from etl_project.kafka.subscription import Subscription
from etl_project.sources import Names
from etl_project.storage import reported

MOST_MESSAGES, MOST_SECONDS = 1_000_000, 50.0
"""Bounds of one scheduled run: it comes to its end before the next one is asked for."""
NO_HOLES = "no_holes_in_offsets"
_REMEMBERED_FAILURES = 12


def definitions(subscription: Subscription) -> dg.Definitions:
    """Job, schedule and check of one subscription."""
    job = consume_job(subscription)
    return dg.Definitions(jobs=[job], schedules=[_every_minute(job)], asset_checks=[_no_holes(subscription)])


def consume_job(subscription: Subscription) -> dg.JobDefinition:
    """A job that lands everything that is in the topic when it begins, within bounds."""
    source = subscription.source.name

    # The run's lock notes which process is at work: one that died is then told from one that is busy.
    @dg.op(
        name=f"land_{source}",
        description=f"Messages of topic {subscription.topic} become files, none lost.",
        required_resource_keys={"run_lock"},
    )
    def land_messages(context: dg.OpExecutionContext) -> None:
        with reported(context.instance, context.run_id):
            extra.require()
            broker = kafka_settings.load()
            # Only a process that talks to a broker needs the client library.
            from etl_project.kafka import landing, notes  # noqa: PLC0415

            bounds = landing.Bounds(MOST_MESSAGES, MOST_SECONDS, until_end=True)
            watch = landing.Watch(warn=context.log.warning)
            tally = landing.land(subscription, broker, settings.load(), bounds, watch)
        context.add_output_metadata(tally.metadata())
        where = f"the log of run {context.run_id} says which"
        notes.note(context.instance, Names.of(source).files, tally, context.log_event, where)

    @dg.job(name=f"consume_{source}", description=consume_job.__doc__, tags=attempts.WITHOUT_DAYS)
    def job() -> None:
        land_messages()

    return job


def _every_minute(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Every minute, unless the last run is still at it; after failures with growing pauses, up to an hour. Runs by
    itself where the environment names a broker."""
    running = kafka_settings.is_configured()

    @dg.schedule(
        name=f"{job.name}_every_minute",
        job=job,
        cron_schedule="* * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED,
        description=_every_minute.__doc__,
    )
    def every_minute(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        attempts.bury_the_dead(context.instance)
        unfinished = [status for status in dg.DagsterRunStatus if status not in FINISHED_STATUSES]
        earlier = context.instance.get_runs(dg.RunsFilter(job_name=job.name, statuses=unfinished), limit=1)
        if earlier:
            return dg.SkipReason(f"Run {earlier[0].run_id} is still landing; the next minute looks again.")
        again = _again_at(context.instance, job.name)
        if again is not None and utc.now() < again:
            return dg.SkipReason(f"The last run failed; the next one is asked for at {again:%Y-%m-%d %H:%M:%S} UTC.")
        return dg.RunRequest()

    return every_minute


def _again_at(instance: dg.DagsterInstance, job: str) -> datetime | None:
    """When to land again, after the newest runs failed one after the other; None where the last one did not.

    No input says that a permanent failure was mended (a password, a topic): it is tried again after the longest pause.
    """
    newest = instance.get_run_records(dg.RunsFilter(job_name=job), limit=_REMEMBERED_FAILURES)
    failed = [*takewhile(lambda one: one.failed, map(_attempt, newest))]
    again = attempts.wait_until(failed)
    return failed[0].ended_at + attempts.LONGEST_PAUSE if again == attempts.NEVER else again


def _attempt(record: dg.RunRecord) -> attempts.Attempt:
    run = record.dagster_run
    return attempts.Attempt(
        permanent=run.tags.get(FAILURE_TAG) == "permanent",
        failed=run.status is dg.DagsterRunStatus.FAILURE,
        ended_at=attempts.ended_at(record),
    )


def _no_holes(subscription: Subscription) -> dg.AssetChecksDefinition:
    source, topic = subscription.source.name, subscription.topic

    @dg.asset_check(
        asset=Names.of(source).files,
        name=NO_HOLES,
        description="The offsets of all landed files and dead letters leave none out, up to what the group committed.",
    )
    def no_holes_in_offsets() -> dg.AssetCheckResult:
        committed, asked = _committed(subscription)
        unanswered = committed is None and kafka_settings.is_configured()
        # Looked up after the offsets, so that what is committed in between cannot look like a hole.
        known = offsets.chains(offsets.found(settings.load(), source), topic)
        problems = offsets.problems(known, committed or {})
        return dg.AssetCheckResult(
            passed=not (problems or unanswered),
            severity=dg.AssetCheckSeverity.ERROR if problems else dg.AssetCheckSeverity.WARN,
            description="; ".join([*problems[:20], asked]),
            metadata={
                "problems": len(problems),
                "last offsets": {str(partition): chain.last for partition, chain in known.items()},
                "committed": {str(partition): position for partition, position in (committed or {}).items()},
            },
        )

    return no_holes_in_offsets


def _committed(subscription: Subscription) -> tuple[dict[int, int] | None, str]:
    """The group's position by partition, None where it could not be asked for; and the same in words.

    What is wrong with the broker or its settings is a warning: it does not keep the days from being built.
    """
    if not kafka_settings.is_configured():
        return None, f"{kafka_settings.BOOTSTRAP} is not set: committed offsets were not compared"
    try:
        extra.require()
        from etl_project.kafka import lag  # noqa: PLC0415

        return lag.committed(subscription, kafka_settings.load()), "compared with the offsets that the group committed"
    except EtlError as error:
        return None, f"not checked against the broker, committed offsets were not compared: {error}"
