"""Contracts, what is stored, and the files that were accepted under them: `etl contract check`, `plan` and `apply`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape

from etl_project.cli.common import Opened, opened
from etl_project.cli.console import Json, console
from etl_project.contract_change import ACCEPTABLE, Plan, Wanted, unapplied, words
from etl_project.contract_change import apply as carry_out
from etl_project.contract_change import plan as look
from etl_project.failures import Permanent
from etl_project.proofs import Stored, stored_assets
from etl_project.sources import archive, fit, quarantine

app = typer.Typer(no_args_is_help=True, help="Contracts, what is stored, and the files accepted under them.")


class NoSuchSource(Permanent):
    """There is no source of this name. Retrying does not help."""


class NotAcceptable(Permanent):
    """What is to be accepted is nothing that can be. Retrying does not help."""


@app.callback()
def contract() -> None:
    """Contracts, what is stored, and the files that were accepted under them."""


@app.command("check")
def contract_check(
    source: Annotated[list[str] | None, typer.Argument(help="Only these sources; all, if none is named.")] = None,
    as_json: Json = False,
) -> None:
    """Read all archived files under the contracts as they are now, and name every one that no longer fits.

    And what of the tables is not what their contracts say, with what the next write makes of it under the drift
    policy. Nothing is built or changed: to be run after a contract.sql or defs.yaml was edited, before anything else.
    Exit code: 0 every file fits and no write is refused, 1 some do not, 2 usage.
    """
    with opened(weekly_checks=False) as found:
        root = found.project.settings.archive
        specs = {spec.name: spec for spec in found.project.sources}
        wanted = source or list(specs)
        if unknown := [name for name in wanted if name not in specs]:
            raise NoSuchSource(f"there is no source {', '.join(unknown)}; there are {', '.join(specs)}")
        unfit = [one for name in wanted for one in fit.unfit(specs[name], root)]
        files = sum(len(versions) for name in wanted for versions in archive.accepted_days(root, specs[name]).values())
        tables = unapplied(found.project, _tables(found), Wanted(tuple(source or ())))
    if as_json:
        listed = [{**one._asdict(), "day": str(one.day), "path": str(one.path)} for one in unfit]
        print(  # noqa: T201
            json.dumps({"files": files, "unfit": listed, "unapplied": [one._asdict() for one in tables]}, indent=2)
        )
    else:
        for one in unfit:
            console.print(f"[red]does not fit[/] {escape(str(one))}", soft_wrap=True, highlight=False)
        for difference in tables:
            mark = "[red]refused[/]" if difference.refused else "[yellow]not applied[/]"
            console.print(f"{mark} {escape(str(difference))}", soft_wrap=True, highlight=False)
        console.print(f"{files} archived files of {len(wanted)} sources, {len(unfit)} do not fit any more")
    raise typer.Exit(1 if unfit or any(one.refused for one in tables) else 0)


Assets = Annotated[list[str] | None, typer.Argument(metavar="[ASSET]...", help="Only these; all, if none is named.")]
Rename = Annotated[
    list[str] | None, typer.Option("--rename", help="A column that got another name, like orders.amount=price.")
]
Drop = Annotated[
    list[str] | None, typer.Option("--drop", help="A column that is to go with its values, like orders.note.")
]


@app.command("plan")
def contract_plan(assets: Assets = None, rename: Rename = None, drop: Drop = None, as_json: Json = False) -> None:
    """Say what `etl contract apply` would do, and change nothing.

    Which tables and raw files are not what their contracts say, which days are carried over and which are built again
    from the archive, which rows have no place, which views break, which archived files no longer fit.
    Exit code: 0 nothing differs, 1 something does, 2 usage.
    """
    with opened(weekly_checks=False) as found:
        planned = look(found.project, _tables(found), Wanted.of(assets or (), rename or (), drop or ()))
    if as_json:
        print(json.dumps(words.as_json(planned), indent=2))  # noqa: T201
    else:
        _show(planned)
        for line in planned.refusals(()):
            console.print(f"[red]in the way[/] {escape(line)}", soft_wrap=True, highlight=False)
        console.print("everything is what its contract says" if planned.empty else "nothing was changed")
    raise typer.Exit(0 if planned.empty else 1)


@app.command("apply")
def contract_apply(
    assets: Assets = None,
    rename: Rename = None,
    drop: Drop = None,
    accept: Annotated[
        list[str] | None,
        typer.Option("--accept", help=f"What is in the way and may be: {', '.join(ACCEPTABLE)}."),
    ] = None,
) -> None:
    """Make tables what their contracts say, in one transaction; days to build again are pending after it.

    Rows, constraints, indexes, comments and views live on; what cannot is named, and nothing is changed. A kill leaves
    the old tables or the new ones; run it again. `etl drain` builds what is pending.
    Exit code: 0 done, or nothing to do; 2 something is in the way, or usage.
    """
    if unknown := sorted(set(accept or ()) - set(ACCEPTABLE)):
        raise NotAcceptable(f"--accept {', '.join(unknown)}: it takes {', '.join(ACCEPTABLE)}, like --accept rows")
    wanted = Wanted.of(assets or (), rename or (), drop or ())
    with opened(weekly_checks=False) as found:
        done = carry_out(found.project, _tables(found), wanted, accept or (), found.instance)
    _show(done.plan)
    for line in done.aside:
        console.print(f"rows were set aside: {escape(line)}", soft_wrap=True, highlight=False)
    pending = any(change.again for change in done.plan.changes) or done.plan.rebuilt_files
    rest = "; `etl drain` builds what is pending" if pending else ""
    console.print("everything is what its contract says" if done.plan.empty else f"applied{rest}", soft_wrap=True)
    refused = {
        one.reason.source for one in quarantine.listing(found.project.settings.quarantine) if not one.reason.settled
    }
    for source in sorted(refused & {change.asset for change in done.plan.changes}):
        console.print(f"files of it in quarantine: `etl quarantine release --source {source}`", soft_wrap=True)


def _show(planned: Plan) -> None:
    for line in words.in_words(planned):
        console.print(escape(line), soft_wrap=True, highlight=False)


def _tables(found: Opened) -> tuple[Stored, ...]:
    return stored_assets(found.definitions)
