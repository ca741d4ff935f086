"""Rollback in Dagster: jobs with a form, for days that are to get earlier rows back, or to be let go of again.

Belongs here: thin shells over `rollback`: the lock, the events, the words. The commands run the same jobs.
"""

# No `from __future__ import annotations` here: Dagster reads the annotations of `context` and `config` as they stand.

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from pydantic import Field

from etl_project import utc
from etl_project.due import WITHOUT_DAYS
from etl_project.proofs import rollback
from etl_project.proofs.verify.targets import Stored, chosen
from etl_project.storage import Commit, PartlyCommitted, as_said_before, metadata_of, reported

ROLLBACK_JOB, UNPIN_JOB = "rollback", "unpin"


class RollbackForm(dg.Config):
    """Which days go back, where to, and why."""

    asset: str = Field(description="The stored asset, as the list of assets names it.")
    day: str | None = Field(default=None, description="The day, like 2025-03-20, or another partition key.")
    until: str | None = Field(default=None, description="The last day of a range that begins with `day`.")
    to: int | None = Field(default=None, description="The number of the commit whose rows come back (etl history).")
    as_of: str | None = Field(default=None, description="A time with its offset: what was there then comes back.")
    reason: str = Field(default="", description="Why; it is kept with the commit.")


class UnpinForm(dg.Config):
    """Which days are let go of."""

    asset: str = Field(description="The stored asset.")
    day: str | None = Field(default=None, description="The day, like 2025-03-20, or another partition key.")
    until: str | None = Field(default=None, description="The last day of a range that begins with `day`.")


def jobs(targets: Sequence[Stored]) -> list[dg.JobDefinition]:
    """The jobs `rollback` and `unpin`."""

    @dg.op(required_resource_keys={"run_lock"}, description="Days get the rows back that an earlier commit had left.")
    def roll_back(context: dg.OpExecutionContext, config: RollbackForm) -> None:
        with reported(context.instance, context.run_id):
            [target] = chosen(targets, [config.asset])
            keys = rollback.days_of(target, config.day, config.until)
            with context.resources.run_lock.holding(
                context.instance, context.run, [(target.asset, k) for k in keys]
            ) as owns:
                planned = rollback.plan(target, keys, config.to, moment(config.as_of))
                for line in planned.left:
                    context.log.info(f"{target.asset} {line}")
                try:
                    commits = rollback.roll_back(target, planned, context.run_id, config.reason, owns)
                except PartlyCommitted as partly:
                    _tell(context, target, partly.commits)
                    raise
            _tell(context, target, commits)

    @dg.op(required_resource_keys={"run_lock"}, description="Days that were rolled back may be built again.")
    def let_go(context: dg.OpExecutionContext, config: UnpinForm) -> None:
        with reported(context.instance, context.run_id):
            [target] = chosen(targets, [config.asset])
            keys = rollback.days_of(target, config.day, config.until)
            with context.resources.run_lock.holding(
                context.instance, context.run, [(target.asset, k) for k in keys]
            ) as owns:
                commits = rollback.unpin(target, keys, context.run_id, owns)
            _tell(context, target, commits)

    @dg.job(
        name=ROLLBACK_JOB,
        tags=WITHOUT_DAYS,
        description="Brings back the rows that an earlier commit of a day had left, and pins the day to them.",
    )
    def rollback_job() -> None:
        roll_back()

    @dg.job(name=UNPIN_JOB, tags=WITHOUT_DAYS, description="Lets go of days that were rolled back: they are due again.")
    def unpin_job() -> None:
        let_go()

    return [rollback_job, unpin_job]


def moment(text: str | None) -> datetime | None:
    """The instant that is meant. Raises CannotRollBack for a time without its offset."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise rollback.CannotRollBack(
            f"{text!r} is no time with its offset; write it like {utc.now():%Y-%m-%dT%H:%M:%S+00:00}."
        )
    return found.astimezone(UTC)


def _tell(context: dg.OpExecutionContext, target: Stored, commits: Sequence[Commit]) -> None:
    """One materialization for each commit, as a build would have written it."""
    asset = dg.AssetKey.from_user_string(target.asset)
    for commit in commits:
        event = dg.AssetMaterialization(
            asset_key=asset,
            partition=commit.partition,
            metadata={**as_said_before(context.instance, asset, commit), **metadata_of(commit)},
            tags={DATA_VERSION_TAG: commit.fingerprint},
        )
        context.log_event(event)
