"""`etl status`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from etl_project import utc
from etl_project.cli import objects
from etl_project.cli.common import opened
from etl_project.cli.console import Json, console
from etl_project.due import look, red_checks
from etl_project.proofs import Unverifiable, chosen, rollback, stored_assets
from etl_project.storage import UNKNOWN, Commit, deviation, to_fields
from etl_project.watch import calendar, history
from etl_project.watch import status as statuses

Asset = Annotated[str | None, typer.Argument(help="Show the commits of this asset instead.")]
Day = Annotated[datetime | None, typer.Option("--day", formats=["%Y-%m-%d"], help="All commits of this day.")]

_WIDTH_IN_A_PIPE = 200
_SHOWN_DAYS = 5
_OUTCOMES = {"success": "[green]success[/]", "failure": "[red]failure[/]"}


def status(asset: Asset = None, day: Day = None, as_json: Json = False) -> None:
    """Every asset by day, waiting and refused files, the last runs; or the newest commits of one ASSET.

    Exit code: 0 shown, 1 shown, and a pipeline cannot be loaded, 2 usage.
    """
    if asset is None and day is not None:
        raise Unverifiable("--day needs an ASSET: `etl status ASSET --day YYYY-MM-DD`.")
    with opened() as found:
        if asset is not None:
            [target] = chosen(stored_assets(found.definitions), [asset])
            commits = history.commits_of(target, day.date() if day else None)
        else:
            snapshot = look(found.project, utc.now(), found.instance)
            checks = found.definitions.resolve_asset_graph().asset_check_keys
            red = red_checks(found.instance, checks)
            everything = statuses.status(found.project, found.instance, snapshot, red, objects.seen(found.project))
            pinned = rollback.pins(stored_assets(found.definitions))
            everything = replace(everything, pinned=tuple(map(rollback.pin_in_words, pinned)))
    if asset is not None:
        show_commits(commits, as_json)
    elif as_json:
        print(json.dumps(everything.as_json(), indent=2))  # noqa: T201
    else:
        show_status(everything)
    raise typer.Exit(1 if found.project.broken else 0)


def show_commits(commits: Sequence[Commit], as_json: bool) -> None:
    """One line a commit, newest first."""
    if as_json:
        print(json.dumps([to_fields(commit) for commit in commits], indent=2))  # noqa: T201
        return
    table = _table("Day", "Committed (UTC)", "Run", "Rows", "Change", "Input", "Code")
    for commit in commits:
        table.add_row(
            commit.partition or "all",
            f"{commit.committed_at:%Y-%m-%d %H:%M:%S}",
            escape(commit.run_id[:8]),
            f"{commit.rows_before:,} → {commit.rows:,}",
            change(commit),
            commit.input_hash[:8] if commit.input_hash != UNKNOWN else "not checked",
            escape((commit.code_version or "none")[:8]),
        )
    _show(table)
    for commit in commits:
        if commit.deviation is not None:
            told = "; ".join(deviation.in_words(commit.deviation))
            line = f"{commit.partition or 'all'}, run {commit.run_id[:8]}: not reproducible: {told}"
            console.print(escape(line), soft_wrap=True, highlight=False)


def change(commit: Commit) -> str:
    """What the commit did to its rows, as far as it is known."""
    if not commit.changed:
        return "same"
    parts = ((commit.rows_added, "added"), (commit.rows_removed, "removed"), (commit.rows_kept, "kept"))
    return "[yellow]changed[/]: " + (", ".join(f"{n:,} {what}" for n, what in parts if n) or "rows not compared")


def show_status(found: statuses.Status) -> None:
    """A calendar, the counts, the files, the last runs."""
    show_calendar(found)
    show_counts(found)
    for line in found.broken:
        console.print(f"[red]broken[/] {escape(line)}", soft_wrap=True, highlight=False)
    for check in found.red_checks:
        console.print(f"[red]check[/] {escape(check)}", soft_wrap=True, highlight=False)
    for line in found.failures:
        console.print(f"[red]failed[/] {escape(line)}", soft_wrap=True, highlight=False)
    for line in found.unpublished:
        console.print(f"[red]not published[/] {escape(line)}", soft_wrap=True, highlight=False)
    for line in found.pinned:
        console.print(f"[yellow]pinned[/] {escape(line)}", soft_wrap=True, highlight=False)
    of_assets = (line for asset in found.assets for line in (*asset.waits, *_by_hand(asset)))
    for line in [*found.gone, *found.not_taken, *of_assets]:
        console.print(escape(line), soft_wrap=True, highlight=False)
    for source in found.sources:
        console.print(
            f"{source.source}: {source.waiting} files waiting, {source.quarantined} in quarantine{late(source)}"
        )
        for notice in source.notices:
            console.print(f"  [yellow]{escape(notice)}[/]", highlight=False, soft_wrap=True)
    if found.runs:
        console.print()
        show_runs(found.runs)


def _by_hand(asset: statuses.AssetStatus) -> list[str]:
    return [f"{asset.asset} is built by hand only: {asset.by_hand}"] if asset.by_hand else []


def late(source: statuses.SourceStatus) -> str:
    """The newest days whose file should have come; nothing where none is overdue."""
    if not source.overdue:
        return ""
    more = f" and {len(source.overdue) - _SHOWN_DAYS} more" if len(source.overdue) > _SHOWN_DAYS else ""
    return f", [red]no file by its deadline for {', '.join(source.overdue[-_SHOWN_DAYS:])}{more}[/]"


def show_calendar(found: statuses.Status) -> None:
    """The newest days of every asset, one sign a day, as many as fit."""
    states = {a.asset: {date.fromisoformat(day): state for day, state in a.calendar.items()} for a in found.assets}
    names = max((len(name) for name in states), default=0)
    days = sorted({day for asset in states.values() for day in asset})[-max(7, console.width - names - 2) :]
    if not days:
        return
    console.print(f"{'':{names}}  {calendar.months(days)}", highlight=False, style="dim")
    for name, asset in states.items():
        console.print(f"{name:{names}} ", calendar.strip(days, asset), highlight=False)
    console.print(f"{'':{names}} ", calendar.legend())
    console.print()


def show_counts(found: statuses.Status) -> None:
    """All days of every asset, counted."""
    table = _table("Asset")
    for count in ("Committed", "Failed", "Missing", "Stale", "Rows"):
        table.add_column(count, justify="right")
    table.add_column("Last commit (UTC)", no_wrap=True)
    for asset in found.assets:
        counts = (asset.committed, asset.failed, asset.missing, asset.stale, asset.rows)
        table.add_row(asset.asset, *(f"{count:,}" for count in counts), _moment(asset.last_commit) or "never")
    _show(table)
    console.print()


def show_runs(runs: Sequence[statuses.RunStatus]) -> None:
    """The last runs, newest first."""
    table = _table("Run", "Days", "Assets", "Started (UTC)", "Seconds", "Outcome")
    for run in runs:
        days = run.first if run.first == run.last else f"{run.first} to {run.last}"
        table.add_row(
            run.run_id[:8],
            days or run.job,
            str(run.assets or "all"),
            _moment(run.started_at) or "not yet",
            "" if run.seconds is None else f"{run.seconds:.1f}",
            _OUTCOMES.get(run.outcome, f"[yellow]{run.outcome}[/]"),
        )
    _show(table)


def _table(*columns: str) -> Table:
    table = Table(box=None)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _show(table: Table) -> None:
    """As wide as the terminal; in a pipe as wide as it is."""
    (console if console.is_terminal else Console(width=_WIDTH_IN_A_PIPE)).print(table)


def _moment(iso: str | None) -> str | None:
    return iso.replace("T", " ").removesuffix("+00:00") if iso else None
