"""`etl maintain`."""

from __future__ import annotations

from typing import Annotated

import typer

from etl_project import settings
from etl_project.cli.common import opened
from etl_project.cli.console import console
from etl_project.watch import lake_upkeep, left_candidates
from etl_project.watch import maintain as maintain_module


def maintain(
    history: Annotated[
        str | None, typer.Option(help="Runs that ended longer ago may go: days or weeks, like 90d or 12w.")
    ] = None,
    warehouse: Annotated[
        str | None, typer.Option(help="Of a DuckLake: snapshots older than that may go, and files are merged, like 7d.")
    ] = None,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="Rows that did not pass their checks and wait for nothing any more go.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Keep Dagster's history at a length (`--history`), the files of a DuckLake few (`--warehouse`), and no candidates
    that are of no use (`--candidates`): their day was committed since, or the table is published as it comes.

    Of the history are kept unfinished runs, the newest 50, the last one of every partition, and all that is needed to
    decide on what is due. Rows of readers, commits and archived files are not touched.

    Exit code: 0; 2 usage, or the warehouse was busy for longer than `ETL_WAIT_SECONDS`.
    """
    if history is None and not candidates and (warehouse is None or dry_run):
        raise typer.BadParameter("say what to keep: --history 90d, --warehouse 7d, --candidates")
    if history is not None:
        days = maintain_module.days_of(history)
        with opened(weekly_checks=False) as found:
            done = maintain_module.maintain(found.instance, found.project, days, dry_run=dry_run)
        console.print(maintain_module.in_words(done, dry_run=dry_run), highlight=False)
    if warehouse is not None and not dry_run:
        days = maintain_module.days_of(warehouse, "--warehouse")
        console.print(lake_upkeep.tidied(settings.load(), days), highlight=False)
    if candidates:
        with opened(weekly_checks=False) as found:
            console.print(left_candidates.tidied(found.project, dry_run=dry_run), highlight=False)
