"""`etl history`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from etl_project.cli.common import opened
from etl_project.cli.console import Json, console
from etl_project.cli.status import change
from etl_project.proofs import Listed, chosen, listing, partition_of, stored_assets
from etl_project.storage import UNKNOWN, to_fields
from etl_project.watch import history as histories

Asset = Annotated[str, typer.Argument(help="The stored asset, as `etl status` names it.")]
Day = Annotated[str | None, typer.Option("--day", help="The day (UTC), or another partition key.")]

_WIDTH_IN_A_PIPE = 200
_WHERE = {"current": "[green]current[/]", "kept": "kept", "gone": "[dim]gone[/]"}


def history(asset: Asset, day: Day = None, as_json: Json = False) -> None:
    """The versions of a day: when each was committed, by which run, from which code and inputs, and what changed.

    `etl show` reads those that are current or kept. Exit code: 0, 2 where nothing was ever committed.
    """
    with opened() as found:
        [target] = chosen(stored_assets(found.definitions), [asset])
        key = partition_of(target, day)
        versions = listing(target, key)
    if not versions:
        raise histories.NoHistory(f"{asset} was never committed for {day or 'all of it'}; `etl status` shows its days.")
    if as_json:
        print(json.dumps([_fields(one) for one in versions], indent=2))  # noqa: T201
        return
    show(versions)
    if not target.table.keep_versions:
        console.print("Replaced rows are not kept: set keep_versions for the table, or ETL_KEEP_VERSIONS.", style="dim")


def show(versions: Sequence[Listed]) -> None:
    """One line a commit, newest first."""
    table = Table(box=None)
    for name in ("Commit", "Committed (UTC)", "Run", "Rows", "Change", "Columns", "Input", "Code", "Its rows are"):
        table.add_column(name, no_wrap=name != "Columns")
    for one in versions:
        commit = one.commit
        if commit is None:
            table.add_row(str(one.sequence), "before the first commit", "", f"{one.rows:,}", "", "", "", "", "kept")
            continue
        table.add_row(
            str(one.sequence),
            f"{commit.committed_at:%Y-%m-%d %H:%M:%S}",
            escape(commit.run_id[:8]),
            f"{commit.rows:,}",
            change(commit),
            escape("; ".join(commit.schema_changes)),
            commit.input_hash[:8] if commit.input_hash != UNKNOWN else "not checked",
            escape((commit.code_version or "none")[:8]),
            _WHERE[one.where],
        )
    (console if console.is_terminal else Console(width=_WIDTH_IN_A_PIPE)).print(table)


def _fields(one: Listed) -> dict[str, object]:
    fields = {} if one.commit is None else to_fields(one.commit)
    return {**fields, "sequence": one.sequence, "rows": one.rows, "rows_are": one.where}
