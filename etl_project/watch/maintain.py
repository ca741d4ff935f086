"""Maintain: Dagster's history kept at a length, without what the project still asks it about.

Belongs here: which requests are still open, one pass over the history, and the job that makes it every week. Does not
belong here: how a run is taken out (`instance.retention`).
"""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import dagster as dg

from etl_project import utc
from etl_project.due import WITHOUT_DAYS, Project, attempts, check_verdicts, look, outlook
from etl_project.failures import Permanent
from etl_project.instance import retention
from etl_project.settings import MOST_DAYS
from etl_project.storage import reported

JOB = "maintain_history"


class NoSuchLength(Permanent):
    """A length of time that cannot be read. Retrying does not help."""


class Maintained(NamedTuple):
    """What was taken out, or would be, and files that could not give their room back because others write to them."""

    plan: retention.Plan
    busy: Sequence[Path] = ()


def days_of(text: str, option: str = "--history") -> int:
    """The number of days that `90d` or `12w` says. Raises NoSuchLength (retrying does not help)."""
    found = re.fullmatch(r"([0-9]{1,6})([dw])", text)
    days = int(found[1]) * (7 if found[2] == "w" else 1) if found else 0
    if not 1 <= days <= MOST_DAYS:
        raise NoSuchLength(f"{option} {text!r} is no length of time; write days or weeks, like 90d or 12w.")
    return days


def maintain(instance: dg.DagsterInstance, project: Project, days: int, *, dry_run: bool = False) -> Maintained:
    """Afterwards the history has no run that ended more than `days` ago, but those that are still needed.

    Needed are the last materialization of every partition (`etl verify`), the runs of everything that is due (how often
    it was tried, and whether that helps), verdicts that still count, and the newest runs. Rows and commits are not
    touched. Raises StoreBusy (retrying helps) while a run holds the warehouse; a kill leaves runs for the next pass.
    """
    snapshot = look(project, utc.now(), instance)
    red = check_verdicts.red(project.nodes, snapshot.commits, instance)
    states = attempts.states_of(instance, outlook(project, snapshot, red=red).due)
    plan = retention.plan(instance, utc.now() - timedelta(days=days), attempts.STATE_TAGS, states)
    if dry_run:
        return Maintained(plan)
    retention.carry_out(instance, plan)
    return Maintained(plan, retention.packed(project.settings.dagster_home / "storage"))


def weekly(project: Project) -> tuple[list[dg.JobDefinition], list[dg.ScheduleDefinition]]:
    """The job that does this and its schedule, Sundays at 04:15 UTC, where ETL_HISTORY_DAYS says how long."""
    days = project.settings.history_days
    if days is None:
        return [], []

    @dg.op(name=f"{JOB}_of_dagster")
    def of_dagster(context: dg.OpExecutionContext) -> None:
        with reported(context.instance, context.run_id):
            context.log.info(in_words(maintain(context.instance, project, days)))

    description = f"Takes runs out of Dagster's history that ended more than {days} days ago and that nothing needs."

    @dg.job(name=JOB, description=description, tags=WITHOUT_DAYS)
    def job() -> None:
        of_dagster()

    schedule = dg.ScheduleDefinition(
        name=JOB,
        job=job,
        cron_schedule="15 4 * * 0",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    return [job], [schedule]


def in_words(done: Maintained, *, dry_run: bool = False) -> str:
    """One line of what was done, or would be."""
    plan = done.plan
    verb = "would be " if dry_run else ""
    busy = f"; {', '.join(path.name for path in done.busy)} is in use and stays as large as it is" if done.busy else ""
    return (
        f"{len(plan.removed)} runs {verb}removed, {len(plan.trimmed)} more {verb}relieved of what their steps said, "
        f"{plan.kept} kept; {plan.size_bytes / 1e6:,.1f} MB{busy}"
    )
