"""`etl retry`."""

from __future__ import annotations

from typing import Annotated

import typer

from etl_project.cli.common import deployment, show_run
from etl_project.cli.drain import refused, show_drained
from etl_project.due import Wish
from etl_project.due import drain as drain_module


def retry(
    assets: Annotated[
        list[str] | None, typer.Argument(metavar="[ASSET]...", help="Only these and what they are built of.")
    ] = None,
) -> None:
    """Try again what failed for good, once its cause is gone, and run what else is pending.

    Exit code: as `etl drain`.
    """
    with deployment() as opened:
        before = refused(opened.project)
        done = drain_module.drain(opened, show_run, Wish(for_good_too=True, select=tuple(assets or ())))
        newly_refused = len(refused(opened.project) - before)
    raise typer.Exit(0 if show_drained(done, newly_refused) else 1)
