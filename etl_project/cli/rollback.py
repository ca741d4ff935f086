"""`etl rollback`, and what `etl unpin` shares with it: a job of its own, run here."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import typer
from rich.markup import escape

from etl_project.cli import confirm
from etl_project.cli.common import opened
from etl_project.cli.console import console
from etl_project.due import complaints_of
from etl_project.exclusion import processes, run_lock
from etl_project.instance import json_logs
from etl_project.proofs import chosen, rollback_job, stored_assets
from etl_project.proofs import rollback as going_back
from etl_project.storage import Commit

Asset = Annotated[str, typer.Argument(help="The stored asset, as `etl status` names it.")]
Day = Annotated[str | None, typer.Option("--day", help="The day (UTC), or another partition key.")]
Until = Annotated[str | None, typer.Option("--until", help="Every day from --day to this one, included.")]
To = Annotated[
    int | None, typer.Option("--to", help="The commit whose rows come back (`etl history` has the numbers).")
]
AsOf = Annotated[str | None, typer.Option("--as-of", help="Bring back what was there at this time, with its offset.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the commit.")]

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def rollback(
    asset: Asset,
    day: Day = None,
    until: Until = None,
    to: To = None,
    as_of: AsOf = None,
    reason: Reason = "",
    yes: confirm.Yes = False,
) -> None:
    """Bring back the rows that an earlier commit of a day had left, and pin the day to them.

    Without --to and --as-of: those that were replaced last. What reads the day follows with the next `etl drain`.
    Exit code: 0 done, 1 it failed, 2 usage, or rows that are not kept.
    """
    form = {"asset": asset, "day": day, "until": until, "to": to, "as_of": as_of, "reason": reason}
    with opened(weekly_checks=False) as found:
        [target] = chosen(stored_assets(found.definitions), [asset])
        keys = going_back.days_of(target, day, until)
        planned = going_back.plan(target, keys, to, rollback_job.moment(as_of))  # Says no before a run is made.
        for line in planned.left:
            console.print(escape(f"left as it is: {line}"), highlight=False, soft_wrap=True)
        most = found.project.settings.confirm_days
        confirm.ask(f"Rolling {asset} back", len(planned.back), most, yes, lambda: show_planned(planned))
        commits = run(found, rollback_job.ROLLBACK_JOB, "roll_back", form, asset)
    for commit in commits:
        console.print(escape(_said(commit)), highlight=False, soft_wrap=True)
    raise typer.Exit(0 if commits else 1)


def show_planned(planned: going_back.Planned) -> None:
    """One line a day: the rows that go, and whose rows come back."""
    for one in planned.back:
        line = f"{one.key or 'all'}: {one.head.rows:,} rows go, those of commit {one.sequence} come back"
        console.print(escape(line), highlight=False, soft_wrap=True)


def run(found: Any, job: str, op: str, form: dict[str, Any], asset: str) -> list[Commit]:
    """Run the job here, as a recorded Dagster run; what it committed, nothing where it failed."""
    run_id = str(uuid.uuid4())
    with run_lock.announced(run_id, found.project.settings.wait_seconds):
        done = found.definitions.resolve_job_def(job).execute_in_process(
            instance=found.instance,
            run_config=json_logs.run_config({**_QUIET, "ops": {op: {"config": form}}}),
            tags=run_lock.owner_tag(processes.this_process()),
            run_id=run_id,
            raise_on_error=False,
        )
    for complaint in complaints_of(done):
        console.print(f"[red]failed[/] {escape(complaint)}", highlight=False, soft_wrap=True)
    [target] = chosen(stored_assets(found.definitions), [asset])
    last = target.store.last_commits([asset]).values()
    return sorted((commit for commit in last if commit.run_id == done.run_id), key=lambda c: str(c.partition))


def _said(commit: Commit) -> str:
    back = commit.restored
    return (
        f"{commit.partition or 'all'}: {commit.rows_before:,} → {commit.rows:,} rows, as commit "
        f"{back.sequence if back is not None else '?'} had left them; pinned until its inputs or its code change"
    )
