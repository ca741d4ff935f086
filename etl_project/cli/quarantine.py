"""Files that were refused, and why: `etl quarantine list|show|release`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

import typer
from rich.markup import escape
from rich.table import Table

from etl_project import settings
from etl_project.cli.console import Json, console
from etl_project.sources.intake import quarantine

app = typer.Typer(no_args_is_help=True, help="Files that were refused, and why.")


@app.command("list")
def quarantine_list(as_json: Json = False) -> None:
    """Every refused file: its key, source, day, name and reason."""
    files = quarantine.listing(settings.load().quarantine)
    if as_json:
        print(json.dumps([described(file) for file in files], indent=2))  # noqa: T201
        return
    table = Table("Key", "Source", "Day", box=None)
    for wide in ("File", "Reason"):
        table.add_column(wide, overflow="fold")
    for file in files:
        why = file.reason
        table.add_row(
            why.key, why.source, str(why.day or "none"), escape(why.name), escape(f"{why.reason}: {why.found}")
        )
    console.print(table if files else "Quarantine is empty.")


@app.command("show")
def quarantine_show(key: str) -> None:
    """All that is known of one refused file: what was found, what was expected, where it lies."""
    print(json.dumps(described(quarantine.show(settings.load().quarantine, key)), indent=2))  # noqa: T201


@app.command("release")
def quarantine_release(key: str) -> None:
    """Put a refused file back into its drop folder, after its contract was mended."""
    configured = settings.load()
    path = quarantine.release(configured.quarantine, key, configured.incoming)
    console.print(f"{escape(str(path))} waits to be judged again: `etl drain`, or let the sensor find it.")


def described(file: quarantine.Quarantined) -> dict[str, str]:
    """A refused file in plain values."""
    path = os.fsencode(file.path).decode(errors="backslashreplace")
    return {**{name: str(value) for name, value in asdict(file.reason).items()}, "path": path}
