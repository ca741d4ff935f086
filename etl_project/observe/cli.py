"""The `etl` command: thin shells that parse arguments, call one function each and print what came of it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from dagster._utils.warnings import disable_dagster_warnings
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from etl_project import instance as instances
from etl_project import partitions, settings
from etl_project.demo import run as demo_run
from etl_project.drain import Deployment, Ended, drain
from etl_project.failures import EtlError
from etl_project.incoming import quarantine
from etl_project.observe import status as statuses
from etl_project.pending import Due
from etl_project.runs import DAYS_JOB, REFUSE_JOB
from etl_project.situation import Project, look

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
quarantines = typer.Typer(no_args_is_help=True, help="Files that were refused, and why.")
app.add_typer(quarantines, name="quarantine")
console = Console()
Json = Annotated[bool, typer.Option("--json", help="Plain JSON on standard output, for scripts.")]


def main() -> None:
    """The entry point: an error a person can mend is one line on standard error and exit code 2."""
    try:
        app()
    except EtlError as error:
        print(f"etl: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


@app.callback()
def etl() -> None:
    """Daily batch pipelines whose reruns are provably identical."""


@app.command()
def demo() -> None:
    """Write sample files, build everything from them, correct a day, and prove that a rerun changes nothing."""
    with deployment() as opened:
        outcome = demo_run.demo(opened, lambda text: console.print(f"[bold]•[/] {text}"), show_run)
    show_outcome(outcome)
    raise typer.Exit(0 if outcome.proven else 1)


@app.command("drain")
def drain_command(
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Let days lose more rows than max_removed_ratio allows.")
    ] = False,
) -> None:
    """Run what is pending until nothing is. Exit code: 0 all well, 1 a day failed or a file was refused, 2 usage."""
    with deployment() as opened:
        refused_before = refused(opened.project)
        done = drain(opened, show_run, allow_shrink=allow_shrink)
        newly_refused = len(refused(opened.project) - refused_before)
    for one in done.gave_up:
        console.print(f"[red]failed for good[/] {span(one)}: asked for again when its input or code changes")
    console.print(
        f"{done.runs} runs, {len(done.failed)} failed, {newly_refused} files refused"
        + (" (`etl quarantine list` says why)" if newly_refused else "")
    )
    raise typer.Exit(1 if done.failed or done.gave_up or newly_refused else 0)


@app.command("status")
def status_command(as_json: Json = False) -> None:
    """Per asset: days committed, failed, missing and stale; per source: files waiting and in quarantine."""
    with deployment() as opened:
        found = statuses.status(opened, look(opened.project, partitions.now()))
    if as_json:
        print(json.dumps(found.as_json(), indent=2))  # noqa: T201
    else:
        show_status(found)


@app.command("receive-http")
def receive_http() -> None:
    """Take files over HTTP into incoming/: a token per client, at most one effect a key (docs/http.md)."""
    # The server's libraries are of no use to any other command.
    from etl_project.delivery import receiver  # noqa: PLC0415
    from etl_project.delivery import settings as delivery_settings  # noqa: PLC0415

    receiver.serve(settings.load(), delivery_settings.receiver())


@quarantines.command("list")
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


@quarantines.command("show")
def quarantine_show(key: str) -> None:
    """All that is known of one refused file: what was found, what was expected, where it lies."""
    print(json.dumps(described(quarantine.show(settings.load().quarantine, key)), indent=2))  # noqa: T201


@quarantines.command("release")
def quarantine_release(key: str) -> None:
    """Put a refused file back into its drop folder, after its contract was mended."""
    configured = settings.load()
    path = quarantine.release(configured.quarantine, key, configured.incoming)
    console.print(f"{escape(str(path))} waits to be judged again: `etl drain`, or let the sensor find it.")


@contextmanager
def deployment() -> Iterator[Deployment]:
    """The project as loaded, and the instance that `dagster dev` in this folder uses too."""
    # Dagster takes a second to import: only commands that run something pay for it.
    from etl_project.definitions import load_project, wire  # noqa: PLC0415

    with disable_dagster_warnings(), instances.opened() as instance:
        project, assets = load_project()
        definitions = wire(project, assets)
        jobs = {name: definitions.resolve_job_def(name) for name in (DAYS_JOB, REFUSE_JOB)}
        yield Deployment(project, jobs, instance)


def refused(project: Project) -> set[str]:
    """The keys of what is in quarantine."""
    return {file.reason.key for file in quarantine.listing(project.settings.quarantine)}


def described(file: quarantine.Quarantined) -> dict[str, str]:
    """A refused file in plain values."""
    path = os.fsencode(file.path).decode(errors="backslashreplace")
    return {**{name: str(value) for name, value in asdict(file.reason).items()}, "path": path}


def span(one: Due) -> str:
    """The days of a run and how many assets it builds."""
    days = str(one.first) if one.first == one.last else f"{one.first} to {one.last}"
    return f"{days}, {len(one.assets)} assets"


def show_run(one: Due, ended: Ended | None) -> None:
    """One line when a run starts, one when it ends, and what its failed steps said."""
    if ended is None:
        console.print(f"  building {span(one)} …")
    elif ended.success:
        console.print("  [green]done[/]")
    else:
        for complaint in ended.complaints:
            console.print(f"  [yellow]{escape(complaint)}[/]", highlight=False)


def show_outcome(outcome: demo_run.Outcome) -> None:
    """The table at the end of the demo, and what to try next."""
    table = Table("", "", show_header=False, title="Result", title_justify="left")
    table.add_row("days", str(outcome.days))
    table.add_row("rows in accepted files", f"{outcome.rows_stored + outcome.rows_rejected:,}")
    table.add_row("rows stored", f"{outcome.rows_stored:,}")
    table.add_row("rows rejected", f"{outcome.rows_rejected:,}")
    table.add_row("files in quarantine", str(outcome.quarantined))
    table.add_row("changed by the correction", correction_of(outcome))
    verdict = "[green]identical[/]" if outcome.proven else "[red]DIFFERENT[/]"
    table.add_row("second run", f"{outcome.identical} of {outcome.rebuilt} fingerprints {verdict}")
    console.print(table)
    etl_command = "etl" if shutil.which("etl") else os.path.relpath(sys.argv[0])
    for command, shows in (
        (f"{etl_command} status", "what is committed, failed, missing"),
        (f"{etl_command} quarantine list", "the refused files, and why"),
        ("make dev", "the same data in the Dagster UI"),
    ):
        console.print(f"Next:  [bold]{command:32}[/] {shows}", highlight=False)


def correction_of(outcome: demo_run.Outcome) -> str:
    """Which days changed, and in which assets."""
    days = {str(day) for _, day in outcome.changed_by_correction}
    assets = ", ".join(sorted({asset for asset, _ in outcome.changed_by_correction}))
    return f"{', '.join(sorted(days))} only, in {assets}" if days else "nothing"


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
