"""What commands that open the project share: the opened deployment, and how a run is shown.

Importing this loads Dagster: a command that needs no project takes `console` instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import NamedTuple

import dagster as dg
import typer
from dagster._utils.warnings import disable_dagster_warnings
from rich.markup import escape

from etl_project import instance as instances
from etl_project import openlineage
from etl_project.cli.console import console
from etl_project.cli.progress import Progress
from etl_project.due import DAYS_JOB, MANY_DAYS_JOB, REFUSE_JOB, Deployment, Due, Ended, Project, asset_specs, stop
from etl_project.instance import json_lines


class Opened(NamedTuple):
    """The project as loaded, everything wired, and the instance that `dagster dev` in this folder uses too."""

    project: Project
    definitions: dg.Definitions
    instance: dg.DagsterInstance


@contextmanager
def opened(weekly_checks: bool = True, earliest: date | None = None) -> Iterator[Opened]:
    """The project and its instance, for commands that look; `earliest` as in `load_project`.

    Of pipelines that cannot be loaded one line each goes to standard error, and the project is what the others are.
    """
    # Loading the pipelines takes a second: only commands that need them pay for it.
    from etl_project.definitions import load_project, wire  # noqa: PLC0415

    with disable_dagster_warnings(), instances.opened() as instance:
        project, assets = load_project(earliest, strict=False)
        for line in (*project.broken, *project.left_out):
            json_lines.complain(f"etl: {line}")
        yield Opened(project, wire(project, assets, weekly_checks=weekly_checks), instance)


@contextmanager
def deployment(earliest: date | None = None) -> Iterator[Deployment]:
    """The project with its jobs, for commands that run something; `earliest` as in `load_project`.

    SIGTERM and Ctrl-C end such a command within seconds, with one line and the exit code that shells know.
    """
    try:
        with stop.on_signals(), _deployment(earliest) as found:
            yield found
    except stop.Stopped as stopped:
        console.print(f"{stopped}: what is committed stays, and the next call goes on from there", soft_wrap=True)
        raise typer.Exit(stopped.exit_code) from stopped


@contextmanager
def _deployment(earliest: date | None) -> Iterator[Deployment]:
    with opened(weekly_checks=False, earliest=earliest) as found:
        names = {*(node.job for node in found.project.nodes), DAYS_JOB, REFUSE_JOB}
        names |= {MANY_DAYS_JOB} if any(spec.day_from for spec in found.project.sources) else set()
        jobs = {name: found.definitions.resolve_job_def(name) for name in names}
        yield Deployment(found.project, jobs, found.instance, Progress().done)
        openlineage.after_command(found.instance, found.project.settings, asset_specs(found.definitions))


def span(one: Due) -> str:
    """The days of a run and how many assets it builds."""
    return f"{one.span}, {len(one.assets)} assets"


def show_run(one: Due, ended: Ended | None) -> None:
    """One line when a run starts, one when it ends, and what its failed steps said."""
    if ended is None:
        console.print(f"  building {span(one)} …")
    elif ended.success:
        console.print(f"  [green]done[/] in {ended.seconds:.1f} s", highlight=False)
    else:
        for complaint in ended.complaints:
            console.print(f"  [yellow]{escape(complaint)}[/]", highlight=False)
        console.print(f"  failed after {ended.seconds:.1f} s", highlight=False)
