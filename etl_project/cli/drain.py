"""`etl drain`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from etl_project.cli.common import deployment, show_run, span
from etl_project.cli.console import console
from etl_project.due.drain import drain as run_what_is_pending
from etl_project.due.snapshot import Project
from etl_project.sources.intake import quarantine


def drain(
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Let days lose more rows than max_removed_ratio allows.")
    ] = False,
) -> None:
    """Run what is pending until nothing is.

    Exit code: 0 all well, 1 a day failed, a file was refused, or something in a drop folder cannot be read, 2 usage.
    """
    with deployment() as opened:
        refused_before = refused(opened.project)
        done = run_what_is_pending(opened, show_run, allow_shrink=allow_shrink)
        newly_refused = len(refused(opened.project) - refused_before)
    for one in done.gave_up:
        console.print(f"[red]failed for good[/] {span(one)}: asked for again when its input or code changes")
    for why in [*done.unreadable.values(), *done.passed_over]:
        console.print(f"[red]not taken in[/] {escape(why)}", soft_wrap=True, highlight=False)
    for why in done.being_written:
        console.print(f"[yellow]not finished[/] {escape(why)}", soft_wrap=True, highlight=False)
    console.print(
        f"{done.runs} runs, {len(done.failed)} failed, {newly_refused} files refused"
        + (" (`etl quarantine list` says why)" if newly_refused else "")
    )
    raise typer.Exit(1 if done.failed or done.gave_up or done.unreadable or done.passed_over or newly_refused else 0)


def refused(project: Project) -> set[str]:
    """The keys of what is in quarantine."""
    return {file.reason.key for file in quarantine.listing(project.settings.quarantine)}
