"""`etl warehouse`: to another warehouse, when one machine is not enough any more, or back; and whose its tables are."""

from __future__ import annotations

import os
import re
from typing import Annotated

import typer
from rich.markup import escape

from etl_project import settings
from etl_project.cli.common import opened
from etl_project.cli.console import console
from etl_project.declare import warehouse as store_of
from etl_project.exclusion import deployment
from etl_project.failures import Permanent
from etl_project.proofs import stored_assets
from etl_project.settings import Settings
from etl_project.storage import Copied, TableStore, copy_warehouse

app = typer.Typer(no_args_is_help=True, help="The warehouse as a whole: copy it, take its tables over.")

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_PASSWORD = re.compile(r"//[^/@\s]*:[^/@\s]+@|\bpassword\s*=|[?&]password=", re.IGNORECASE)
_LAKE = "ducklake:"


class NoAddress(Permanent):
    """What is to be copied, or where to, is not said as it can be. Retrying does not help."""


@app.callback()
def warehouse() -> None:
    """The warehouse as a whole: copy it to another engine or machine, take its tables over."""


@app.command("copy")
def warehouse_copy(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="As ETL_WAREHOUSE says it, or the name of a variable that does.")
    ],
    target: Annotated[str, typer.Argument(metavar="TO", help="Likewise; it is made, or holds what a copy has left.")],
    from_data: Annotated[
        str | None, typer.Option("--from-data", help="Of a DuckLake: where its files lie, as ETL_WAREHOUSE_DATA says.")
    ] = None,
    to_data: Annotated[str | None, typer.Option("--to-data", help="Likewise, of the target.")] = None,
) -> None:
    """Copy every asset's table with keys, comments, commit records and kept versions into another warehouse.

    Between a DuckDB file (`duckdb:///PATH`), a DuckLake and PostgreSQL, in any direction. Each table is one
    transaction, read back and compared value by value before it is committed. After a kill, or when the source has
    changed since, run it again: it goes on with what is missing or other. Rows of the target that no copy has written
    are never touched: such a table is refused by name. The source is only read. Then set ETL_WAREHOUSE to the target:
    `etl verify` finds the same there, and `etl drain` nothing to do.

    Exit code: 0 the target holds everything, 1 some table was refused, 2 usage, or a server is not there.
    """
    with opened(weekly_checks=False) as found:
        configured = found.project.settings
        tables = [one.table for one in stored_assets(found.definitions) if isinstance(one.store, TableStore)]
    here, there = _store(configured, source, from_data, "--from-data"), _store(configured, target, to_data, "--to-data")
    report = copy_warehouse(here, there, tables, _show)
    for asset, why in report.refused.items():
        console.print(f"[red]refused[/] {escape(asset)}: {escape(why)}", highlight=False, soft_wrap=True)
    for other in report.others:
        console.print(f"[yellow]not copied[/] {escape(other)}: no asset's", highlight=False, soft_wrap=True)
    total = sum(one.copied for one in report.done)
    said = f"{total} tables copied, {len(report.done) - total} were there already, {len(report.refused)} refused"
    console.print(said, highlight=False, soft_wrap=True)
    raise typer.Exit(1 if report.refused else 0)


@app.command("take-over")
def warehouse_take_over() -> None:
    """Let this deployment write the tables that another one has written; that one is refused from then on.

    For a folder that was moved, copied or restored without its `deployment-id`, and for a deployment that is gone. Two
    that are alive would each rebuild the days of the other: they need a database each, or the same ETL_LOCKS. Nothing
    but the note of whose the tables are is changed.

    Exit code: 0 done, or nothing to take over, 1 it was refused, 2 usage, or a server is not there.
    """
    with opened(weekly_checks=False) as found:
        configured = found.project.settings
        assets = [one.table.asset for one in stored_assets(found.definitions) if isinstance(one.store, TableStore)]
    here = deployment.of_settings(configured)
    engine = store_of(configured).engine
    others = {asset: whose for asset, whose in engine.tenants().items() if asset in assets and whose.id not in here.ids}
    if others:
        engine.take_over(others, here)
    for asset, whose in sorted(others.items()):
        console.print(f"{escape(asset)}: was written by {escape(str(whose))}", highlight=False, soft_wrap=True)
    console.print(f"{len(others)} tables taken over by {escape(str(here))}", highlight=False, soft_wrap=True)


def _show(one: Copied) -> None:
    what = "copied" if one.copied else "there already"
    more = f", {one.versions} kept versions" if one.versions else ""
    line = f"{one.asset}: {one.rows:,} rows, {one.commits:,} commit records{more}" if one.copied else one.asset
    console.print(f"[green]{what}[/] {escape(line)}", highlight=False, soft_wrap=True)
    for left in one.left:
        console.print(f"  not in the target: {escape(left)}", highlight=False, soft_wrap=True)


def _store(configured: Settings, said: str, data: str | None, option: str) -> TableStore:
    """The store that an argument names. Raises NoAddress and SettingsError (retrying does not help)."""
    url = said
    if _VARIABLE.fullmatch(said):
        url = os.environ.get(said, "")
        if not url:
            raise NoAddress(f"The variable {said} is not set; write an address like duckdb:///data/warehouse.duckdb.")
    elif _PASSWORD.search(said):
        raise NoAddress(
            "A password in an argument is seen by everybody who lists processes. Leave it out and set PGPASSWORD or "
            "~/.pgpass, or put the address into a variable and name that: etl warehouse copy ETL_WAREHOUSE NEW_ONE."
        )
    own = url == os.environ.get(settings.WAREHOUSE_URL)
    data = data or (os.environ.get("ETL_WAREHOUSE_DATA") if own else None)
    if url.startswith(_LAKE) and data is None:
        raise NoAddress(
            f"{option} is not given: say where the files of the DuckLake lie, like {option} s3://bucket/wh."
        )
    if data is not None and not url.startswith(_LAKE):
        raise NoAddress(f"{option} is for a DuckLake, and the address names none. Leave it out.")
    return store_of(settings.at_warehouse(configured, url, data))
