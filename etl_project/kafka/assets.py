"""What a Kafka source adds in Dagster: a job that lands what is there, its schedule, and the check that no offset is
missing.

Thin shells over `landing` and `offsets`. The landing is a job without assets of its own: it has no days, and what it
brings becomes days only where files are taken in. Its numbers are noted on the files asset, where they can be plotted.
"""

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from etl_project import runs, settings
from etl_project.failures import reported
from etl_project.incoming.asset_names import Names
from etl_project.kafka import extra, offsets
from etl_project.kafka import settings as kafka_settings
from etl_project.kafka.subscription import Subscription

MOST_MESSAGES, MOST_SECONDS = 1_000_000, 50.0
"""Bounds of one scheduled run: it comes to its end before the next one is asked for."""


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
            from etl_project.kafka import landing  # noqa: PLC0415

            bounds = landing.Bounds(MOST_MESSAGES, MOST_SECONDS, until_end=True)
            watch = landing.Watch(warn=context.log.warning)
            tally = landing.land(subscription, broker, settings.load(), bounds, watch)
        metadata = tally.metadata()
        context.add_output_metadata(metadata)
        context.log_event(dg.AssetObservation(Names.of(source).files, metadata=metadata))

    @dg.job(name=f"consume_{source}", description=consume_job.__doc__, tags=runs.WITHOUT_DAYS)
    def job() -> None:
        land_messages()

    return job


def _every_minute(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Every minute, unless the last run is still at it. Runs by itself where the environment names a broker."""
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
        runs.bury_the_dead(context.instance)
        unfinished = [status for status in dg.DagsterRunStatus if status not in FINISHED_STATUSES]
        earlier = context.instance.get_runs(dg.RunsFilter(job_name=job.name, statuses=unfinished), limit=1)
        if earlier:
            return dg.SkipReason(f"Run {earlier[0].run_id} is still landing; the next minute looks again.")
        return dg.RunRequest()

    return every_minute


def _no_holes(subscription: Subscription) -> dg.AssetChecksDefinition:
    source, topic = subscription.source.name, subscription.topic

    @dg.asset_check(
        asset=Names.of(source).files,
        name="no_holes_in_offsets",
        description="The offsets of all landed files and dead letters leave none out, up to what the group committed.",
    )
    def no_holes_in_offsets() -> dg.AssetCheckResult:
        committed, asked = _committed(subscription)
        # Looked up after the offsets, so that what is committed in between cannot look like a hole.
        known = offsets.chains(offsets.found(settings.load(), source), topic)
        problems = offsets.problems(known, committed)
        return dg.AssetCheckResult(
            passed=not problems,
            description="; ".join([*problems[:20], asked]),
            metadata={
                "problems": len(problems),
                "last offsets": {str(partition): chain.last for partition, chain in known.items()},
                "committed": {str(partition): position for partition, position in committed.items()},
            },
        )

    return no_holes_in_offsets


def _committed(subscription: Subscription) -> tuple[dict[int, int], str]:
    """The group's position by partition, and in words whether it could be asked for."""
    if not kafka_settings.is_configured():
        return {}, f"{kafka_settings.BOOTSTRAP} is not set: committed offsets were not compared"
    try:
        extra.require()
    except extra.MissingExtra as error:
        return {}, f"committed offsets were not compared: {error}"
    from etl_project.kafka import lag  # noqa: PLC0415

    try:
        return lag.committed(subscription, kafka_settings.load()), "compared with the offsets that the group committed"
    except lag.NotAnswered as error:
        return {}, f"committed offsets were not compared: {error}"
