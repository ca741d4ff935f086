"""`etl rebuild`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape

from etl_project import utc
from etl_project.cli import confirm
from etl_project.cli.common import deployment, show_run
from etl_project.cli.console import console
from etl_project.cli.drain import show_drained
from etl_project.cli.plan import show_after, show_steps
from etl_project.due import Deployment, Due, Snapshot, Wish, ahead, look
from etl_project.due import preview as previewing
from etl_project.due import rebuild as rebuilding

_DAY = ["%Y-%m-%d"]
From = Annotated[datetime | None, typer.Option("--from", formats=_DAY, help="The first day; the first there is.")]
To = Annotated[datetime | None, typer.Option("--to", formats=_DAY, help="The last day, included; the last there is.")]


def rebuild(  # noqa: PLR0913, PLR0917  # Each is an option of the command.
    assets: Annotated[list[str] | None, typer.Argument(metavar="[ASSET]...", help="What to build again.")] = None,
    first: From = None,
    last: To = None,
    stale: Annotated[
        bool, typer.Option("--stale", help="What was committed by other code, or under another contract, than now.")
    ] = False,
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Let days lose more rows than max_removed_ratio allows.")
    ] = False,
    allow_change: Annotated[
        bool, typer.Option("--allow-change", help="Let days change by more than max_changed_ratio, max_sum_change.")
    ] = False,
    allow_unchecked: Annotated[
        bool, typer.Option("--allow-unchecked", help="Publish rows whatever their checks say (publish: after_checks).")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run, and run nothing.")] = False,
    yes: confirm.Yes = False,
) -> None:
    """Build days of assets again, whether anything is due or not. What reads them follows with the next `etl drain`.

    Days without an input are left out and named. Before more than ETL_CONFIRM_DAYS days it asks.

    Exit code: 0 all well, 1 a day failed or a check is red, 2 usage.
    """
    named = tuple(assets or ())
    if not named and not stale:
        raise rebuilding.NothingAskedFor(
            "`etl rebuild` builds what it is told: name an asset, as in `etl rebuild orders --from 2025-03-01 "
            "--to 2025-03-07`, or ask for `--stale`. Retrying does not help."
        )
    span = rebuilding.Span(first.date() if first else None, last.date() if last else None)
    with deployment() as opened:
        snapshot = look(opened.project, utc.now(), opened.instance)
        if stale:
            plan = rebuilding.stale(opened.project, snapshot, named, span)
        else:
            plan = rebuilding.plan(opened.project, snapshot, ahead(opened, snapshot, Wish()), named, span)
        for line in plan.left_out:
            console.print(escape(line), soft_wrap=True, highlight=False)
        if dry_run or not plan.runs:
            show_rebuild(opened, snapshot, plan.runs)
            console.print(f"{len(plan.runs)} runs; nothing was run")
            return
        days = {key for one in plan.runs for key in one.keys}
        most = opened.project.settings.confirm_days
        confirm.ask(
            f"Building {', '.join(named) or 'what is stale'} again",
            len(days),
            most,
            yes,
            lambda: show_rebuild(opened, snapshot, plan.runs),
        )
        done = rebuilding.rebuild(
            opened,
            plan.runs,
            show_run,
            allow_shrink=allow_shrink,
            allow_change=allow_change,
            allow_unchecked=allow_unchecked,
        )
    raise typer.Exit(0 if show_drained(done, newly_refused=0) else 1)


def show_rebuild(opened: Deployment, snapshot: Snapshot, runs: Sequence[Due]) -> None:
    """What these runs build again, how many rows that replaces, and what follows."""
    show_steps(previewing.rebuilt(opened, snapshot, runs))
    show_after(previewing.after_rebuild(opened, snapshot, runs))
