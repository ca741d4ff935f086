"""Contracts and the files that were accepted under them: `etl contract check`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape

from etl_project.cli.common import opened
from etl_project.cli.console import Json, console
from etl_project.failures import Permanent
from etl_project.sources import archive, fit

app = typer.Typer(no_args_is_help=True, help="Contracts, and the files that were accepted under them.")


class NoSuchSource(Permanent):
    """There is no source of this name. Retrying does not help."""


@app.callback()
def contract() -> None:
    """Contracts, and the files that were accepted under them."""


@app.command("check")
def contract_check(
    source: Annotated[list[str] | None, typer.Argument(help="Only these sources; all, if none is named.")] = None,
    as_json: Json = False,
) -> None:
    """Read all archived files under the contracts as they are now, and name every one that no longer fits.

    Nothing is built or changed: to be run after a contract.sql or defs.yaml was edited, before anything else.
    Exit code: 0 every file fits, 1 some do not, 2 usage.
    """
    with opened(weekly_checks=False) as found:
        root = found.project.settings.archive
        specs = {spec.name: spec for spec in found.project.sources}
        wanted = source or list(specs)
        if unknown := [name for name in wanted if name not in specs]:
            raise NoSuchSource(f"there is no source {', '.join(unknown)}; there are {', '.join(specs)}")
        unfit = [one for name in wanted for one in fit.unfit(specs[name], root)]
        files = sum(len(versions) for name in wanted for versions in archive.accepted_days(root, specs[name]).values())
    if as_json:
        listed = [{**one._asdict(), "day": str(one.day), "path": str(one.path)} for one in unfit]
        print(json.dumps({"files": files, "unfit": listed}, indent=2))  # noqa: T201
    else:
        for one in unfit:
            console.print(f"[red]does not fit[/] {escape(str(one))}", soft_wrap=True, highlight=False)
        console.print(f"{files} archived files of {len(wanted)} sources, {len(unfit)} do not fit any more")
    raise typer.Exit(1 if unfit else 0)
