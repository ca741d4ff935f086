"""`etl unpin`."""

from __future__ import annotations

import typer

from etl_project.cli.common import opened
from etl_project.cli.console import console
from etl_project.cli.rollback import Asset, Day, Until, run
from etl_project.proofs import chosen, rollback_job, stored_assets
from etl_project.proofs import rollback as going_back


def unpin(asset: Asset, day: Day = None, until: Until = None) -> None:
    """Let go of days that were rolled back: their rows stay until the next `etl drain` builds them from their inputs.

    Exit code: 0 done, 1 it failed, 2 usage, or nothing is pinned.
    """
    with opened(weekly_checks=False) as found:
        [target] = chosen(stored_assets(found.definitions), [asset])
        keys = going_back.days_of(target, day, until)
        going_back.pinned_of(target, keys)
        commits = run(found, rollback_job.UNPIN_JOB, "let_go", {"asset": asset, "day": day, "until": until}, asset)
    for commit in commits:
        console.print(f"{commit.partition or 'all'}: unpinned, and due", highlight=False)
    raise typer.Exit(0 if commits else 1)
