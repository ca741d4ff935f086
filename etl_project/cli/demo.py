"""`etl demo`."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from etl_project import settings, utc
from etl_project.cli.common import deployment, show_run
from etl_project.cli.console import console
from etl_project.demo import run as demo_run
from etl_project.demo import sample
from etl_project.due import Project
from etl_project.failures import Permanent
from etl_project.instance import json_lines
from etl_project.kafka import extra
from etl_project.kafka import settings as kafka_settings


def demo(
    kafka: Annotated[
        str | None,
        typer.Option(metavar="BOOTSTRAP", help="Send the payments through this broker, instead of landing files."),
    ] = None,
    first: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help=f"The first of the 30 days; else so that today is the last (Kafka: {sample.FIRST}).",
        ),
    ] = None,
) -> None:
    """Write sample files, build everything from them, correct a day, and prove that a rerun changes nothing."""
    if kafka is not None:
        extra.require()
    start = first_day(first, kafka)
    moved = start - sample.FIRST
    with deployment(earliest=start) as opened:
        refuse_other_pipelines(opened.project)
        outcome = demo_run.demo(
            opened,
            delivery(opened.project, kafka, moved),
            lambda text: console.print(f"[bold]•[/] {escape(text)}"),
            show_run,
            moved,
        )
    show_outcome(outcome)
    raise typer.Exit(0 if outcome.proven else 1)


def first_day(asked: datetime | None, kafka: str | None) -> date:
    """The sample's first day. A topic is told apart from somebody else's by its messages, so theirs do not move."""
    if kafka is not None:
        if asked is not None and asked.date() != sample.FIRST:
            raise typer.BadParameter(f"through Kafka the sample's first day is {sample.FIRST}", param_hint="--first")
        return sample.FIRST
    return asked.date() if asked else demo_run.first_day(settings.load(), utc.now().date())


class NotTheSample(Permanent):
    """The demo's own pipelines are not there. Nothing was written."""


def refuse_other_pipelines(project: Project) -> None:
    """The sample files are for the sample's sources. Raises NotTheSample where one is missing."""
    missing = sorted({"orders", "payments"} - {spec.name for spec in project.sources})
    if missing:
        raise NotTheSample(
            f"the demo needs its own pipelines, and {', '.join(missing)} is not among yours: run it without "
            "ETL_PIPELINES, in a data folder of its own (ETL_DATA_DIR)."
        )


def delivery(project: Project, bootstrap: str | None, moved: timedelta) -> demo_run.Payments:
    """How the payments come: as landed files, or by way of a broker."""
    if bootstrap is None:
        return demo_run.AsFiles(project.settings.incoming / "payments", moved)
    # Only where the extra is installed.
    from etl_project.definitions import subscriptions  # noqa: PLC0415
    from etl_project.demo import ThroughKafka  # noqa: PLC0415

    broker = kafka_settings.load({**os.environ, kafka_settings.BOOTSTRAP: bootstrap})
    [payments] = (one for one in subscriptions(json_lines.complain) if one.source.name == "payments")
    return ThroughKafka(payments, broker, project.settings)


def show_outcome(outcome: demo_run.DemoResult) -> None:
    """The table at the end of the demo, and what to try next."""
    table = Table("", "", show_header=False, title="Result", title_justify="left")
    table.add_row("days", str(outcome.days))
    table.add_row("rows in accepted files", f"{outcome.rows_stored + outcome.rows_rejected:,}")
    table.add_row("rows stored", f"{outcome.rows_stored:,}")
    table.add_row("rows rejected", f"{outcome.rows_rejected:,}")
    table.add_row("payments stored", f"{outcome.payments:,}")
    table.add_row("files in quarantine", str(outcome.quarantined))
    table.add_row("changed by what came later", changes_of(outcome))
    verdict = "[green]identical[/]" if outcome.proven else "[red]DIFFERENT[/]"
    table.add_row("second run", f"{outcome.identical} of {outcome.rebuilt} fingerprints {verdict}")
    console.print(table)
    etl_command = "etl" if shutil.which("etl") else os.path.relpath(sys.argv[0])
    for command, shows in (
        (f"{etl_command} status", "what is committed, failed, missing"),
        (f"{etl_command} quarantine list", "the refused files, and why"),
        *([("make dev", "the same data in the Dagster UI")] if Path("Makefile").exists() else []),
    ):
        console.print(f"Next:  [bold]{command:32}[/] {shows}", highlight=False)


def changes_of(outcome: demo_run.DemoResult) -> str:
    """Which days changed, and in which assets: a line a day."""
    by_day: dict[date, list[str]] = {}
    for asset, day in outcome.changed_later:
        by_day.setdefault(day, []).append(asset)
    return "\n".join(f"{day}: {', '.join(assets)}" for day, assets in sorted(by_day.items())) or "nothing"
