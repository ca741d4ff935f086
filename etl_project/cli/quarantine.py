"""Files that were refused, and why: `etl quarantine list|show|release|discard`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from etl_project import settings
from etl_project.cli.console import Json, console
from etl_project.sources import quarantine

app = typer.Typer(no_args_is_help=True, help="Files that were refused, and why.")


Keys = Annotated[list[str] | None, typer.Argument(help="Keys of refused files, as `list` shows them.")]
All = Annotated[bool, typer.Option("--all", help="Every refused file.")]
Source = Annotated[str | None, typer.Option("--source", help="Those of this source.")]
Matching = Annotated[str | None, typer.Option("--matching", help="Those with a name like this, as in a shell.")]


@app.command("list")
def quarantine_list(as_json: Json = False) -> None:
    """Every refused file: its key, source, day, name and reason. In a pipe: one line a file, with tabs."""
    files = quarantine.listing(settings.load().quarantine)
    if as_json:
        print(json.dumps([described(file) for file in files], indent=2))  # noqa: T201
        return
    if not files:
        console.print("Quarantine is empty.")
        return
    head = ("Key", "Source", "Day", "File", "Reason")
    if not console.is_terminal:
        for line in (head, *map(_told, files)):
            print("\t".join(" ".join(cell.split()) for cell in line))  # noqa: T201
        return
    table = Table(*head[:3], box=None)
    for wide in head[3:]:
        table.add_column(wide, overflow="fold")
    for file in files:
        table.add_row(*map(escape, _told(file)))
    console.print(table)


def _told(file: quarantine.Quarantined) -> tuple[str, ...]:
    why = file.reason
    since = " (replaced since)" if why.settled else ""
    return why.key, why.source, str(why.day or "none"), why.name, f"{why.reason}: {why.found}{since}"


@app.command("show")
def quarantine_show(key: str) -> None:
    """All that is known of one refused file: what was found, what was expected, where it lies."""
    print(json.dumps(described(quarantine.show(settings.load().quarantine, key)), indent=2))  # noqa: T201


@app.command("release")
def quarantine_release(
    keys: Keys = None, everything: All = False, source: Source = None, matching: Matching = None
) -> None:
    """Put refused files back into their drop folders, after the contract was mended.

    Exit code: 0 all are back, 1 some could not be, 2 usage.
    """
    configured = settings.load()
    stuck = 0
    chosen = _chosen(keys, everything, source, matching)
    for one in chosen:
        try:
            quarantine.release(configured.quarantine, one.reason.key, configured.incoming)
            told = f"{one.reason.source}/{one.reason.name} waits to be judged again"
            console.print(escape(told), highlight=False, soft_wrap=True)
        except quarantine.NotReleased as error:
            stuck += 1
            console.print(f"[red]not released[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    if chosen:
        shrinking = any(one.reason.reason in quarantine.SHRINKING for one in chosen)
        allowed = "`etl drain --allow-shrink`, since the tables ask about lost rows as well"
        console.print(f"Next: {allowed if shrinking else '`etl drain`, or let the sensor find them'}.", soft_wrap=True)
    raise typer.Exit(1 if stuck else 0)


@app.command("discard")
def quarantine_discard(
    keys: Keys = None, everything: All = False, source: Source = None, matching: Matching = None
) -> None:
    """Remove refused files for good: their days keep what was accepted, and are open no longer."""
    configured = settings.load()
    days: dict[str, set[date | None]] = {}
    for one in _chosen(keys, everything, source, matching):
        quarantine.discard(configured.quarantine, one)
        days.setdefault(one.reason.source, set()).add(one.reason.day)
        console.print(f"{one.reason.key} {escape(one.reason.name)} is gone", highlight=False, soft_wrap=True)
    if days:
        _tell_checks(configured, days)


def _tell_checks(configured: settings.Settings, days: Mapping[str, set[date | None]]) -> None:
    from etl_project.cli.common import opened  # noqa: PLC0415  # It loads Dagster, which nothing else here needs.
    from etl_project.sources import discarded  # noqa: PLC0415

    with opened() as found:
        for spec in found.project.sources:
            discarded.tell(found.instance, spec, configured, days.get(spec.name, ()))


def _chosen(
    keys: list[str] | None, everything: bool, source: str | None, matching: str | None
) -> list[quarantine.Quarantined]:
    """What the arguments name; nothing is chosen by naming nothing."""
    narrowed = bool(keys) or source is not None or matching is not None
    if everything == narrowed:
        raise typer.BadParameter("Name keys, or --source and --matching, or --all alone.")
    root = settings.load().quarantine
    found = quarantine.chosen(root, keys or (), source, matching)
    if not found:
        console.print(escape(_why_none(len(quarantine.listing(root)), source, matching)), soft_wrap=True)
    return found


def _why_none(there: int, source: str | None, matching: str | None) -> str:
    """Why nothing is chosen: what was released or discarded before is there no more."""
    if not there:
        return "Quarantine is empty: there is no refused file."
    of_source = f" of the source {source}" if source is not None else ""
    like = f" with a name like {matching}" if matching is not None else ""
    return f"There is no refused file{of_source}{like}; `etl quarantine list` shows those that there are ({there})."


def described(file: quarantine.Quarantined) -> dict[str, str]:
    """A refused file in plain values."""
    path = os.fsencode(file.path).decode(errors="backslashreplace")
    return {**{name: str(value) for name, value in asdict(file.reason).items()}, "path": path}
