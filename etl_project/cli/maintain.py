"""`etl maintain`."""

from __future__ import annotations

from typing import Annotated

import typer

from etl_project.cli.common import opened
from etl_project.cli.console import console
from etl_project.watch import maintain as maintain_module


def maintain(
    history: Annotated[str, typer.Option(help="Runs that ended longer ago may go: days or weeks, like 90d or 12w.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Keep Dagster's history at a length: runs, their events, and what their steps printed.

    Kept are unfinished runs, the newest 50, the last one of every partition, and all that is needed to decide on what
    is due. Rows, commits and archived files are not touched.

    Exit code: 0; 2 usage, or the warehouse was busy for longer than `ETL_WAIT_SECONDS`.
    """
    days = maintain_module.days_of(history)
    with opened(weekly_checks=False) as found:
        done = maintain_module.maintain(found.instance, found.project, days, dry_run=dry_run)
    console.print(maintain_module.in_words(done, dry_run=dry_run), highlight=False)
