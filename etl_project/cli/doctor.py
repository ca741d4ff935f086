"""`etl doctor`."""

from __future__ import annotations

import json
import os

import typer
from dagster._utils.warnings import disable_dagster_warnings
from rich.markup import escape

from etl_project.cli.console import Json, console
from etl_project.watch import examine


def doctor(as_json: Json = False) -> None:
    """Say whether settings, versions, disk, clock, file system, warehouse and pipelines are fit to run.

    Exit code: 0 all well, 1 something is not, and what to do stands beside it.
    """
    answers = []
    for answer in examine(os.environ, _load_pipelines):
        answers.append(answer)
        if not as_json:
            sign = "[green]well[/]" if answer.well else "[bold red]NOT WELL[/]"
            advice = f" {answer.advice}" if answer.advice and not answer.well else ""
            line = f"{sign} [bold]{answer.question}[/]: {escape(answer.found)}{escape(advice)}"
            console.print(line, highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps([answer._asdict() for answer in answers], indent=2))  # noqa: T201
    raise typer.Exit(0 if all(answer.well for answer in answers) else 1)


def _load_pipelines() -> str:
    """Load them as a run would. Only here: Dagster takes a second."""
    from etl_project.definitions import load_project  # noqa: PLC0415

    with disable_dagster_warnings():
        project, _ = load_project()
    names = ", ".join(spec.name for spec in project.sources)
    return f"{len(project.nodes)} assets, {len(project.sources)} sources ({names or 'none'})"
