"""`etl status`."""

from __future__ import annotations

import json

from rich.table import Table

from etl_project import partitions
from etl_project.observe import status as statuses
from etl_project.observe.commands.common import Json, console, deployment
from etl_project.situation import look


def status(as_json: Json = False) -> None:
    """Per asset: days committed, failed, missing and stale; per source: files waiting and in quarantine."""
    with deployment() as opened:
        found = statuses.status(opened, look(opened.project, partitions.now()))
    if as_json:
        print(json.dumps(found.as_json(), indent=2))  # noqa: T201
    else:
        show_status(found)


def show_status(found: statuses.Status) -> None:
    """The status as two tables."""
    table = Table("Asset", box=None)
    for count in ("Committed", "Failed", "Missing", "Stale", "Rows"):
        table.add_column(count, justify="right")
    table.add_column("Last commit (UTC)", no_wrap=True)
    for asset in found.assets:
        counts = (asset.committed, asset.failed, asset.missing, asset.stale, asset.rows)
        table.add_row(
            asset.asset,
            *(f"{count:,}" for count in counts),
            (asset.last_commit or "never").replace("T", " ").removesuffix("+00:00"),
        )
    console.print(table)
    for source in found.sources:
        console.print(f"\n{source.source}: {source.waiting} files waiting, {source.quarantined} in quarantine")
