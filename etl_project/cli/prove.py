"""`etl prove`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from dagster._utils.warnings import disable_dagster_warnings
from rich.markup import escape

from etl_project.cli.console import Json, console
from etl_project.proofs import Proof, Rebuild, Stored, proof, stored_assets, subject
from etl_project.settings import Settings
from etl_project.storage import in_words

Asset = Annotated[str, typer.Argument(help="The stored asset, as `etl status` names it.")]
Day = Annotated[datetime, typer.Option("--day", formats=["%Y-%m-%d"], help="The day to rebuild (UTC).")]
Times = Annotated[int, typer.Option("--times", min=2, max=100, help="How many rebuilds.")]


def prove(asset: Asset, day: Day, times: Times = 3, as_json: Json = False) -> None:
    """Rebuild a day on the side under other time zones, hash seeds, thread counts and row orders, and compare.

    Nothing real is touched. Exit code: 0 reproducible, 1 not (or a rebuild failed), 2 usage.
    """
    # Loading the pipelines takes a second.
    from etl_project.definitions import default_resources, load_project  # noqa: PLC0415

    with disable_dagster_warnings():
        project, assets = load_project()

        def targets_in(configured: Settings) -> Sequence[Stored]:
            return stored_assets(assets, default_resources(configured))

        chosen = subject(assets, targets_in(project.settings), asset, day.date())
        told = (lambda _: None) if as_json else show_rebuild
        result = proof.prove(chosen, targets_in, project.settings, times, told)
    if as_json:
        print(json.dumps(asdict(result), indent=2, default=str))  # noqa: T201
    else:
        show(result)
    raise typer.Exit(0 if result.reproducible else 1)


def show_rebuild(rebuild: Rebuild) -> None:
    """One line as soon as a rebuild has ended."""
    c = rebuild.circumstances
    how = f"{c.zone}, hash seed {c.hash_seed}, {c.threads} threads, input rows {c.order}"
    if rebuild.complaint is not None:
        console.print(f"[red]failed[/]  {how}\n        {escape(rebuild.complaint)}", highlight=False, soft_wrap=True)
    else:
        console.print(f"{rebuild.fingerprint}  {how}", highlight=False, soft_wrap=True)


def show(proof: Proof) -> None:
    """The verdict, and what differs."""
    console.print(f"committed: {proof.commit}", highlight=False, soft_wrap=True)
    for title, found in (("between rebuilds", proof.deviation), ("from what is committed", proof.commit_deviation)):
        for n, words in enumerate(in_words(found) if found is not None else ()):
            console.print(escape(f"  {words}" if n else f"{title}: {words}"), highlight=False, soft_wrap=True)
    verdict = "[green]reproducible[/]" if proof.reproducible else "[red]NOT reproducible[/]"
    console.print(f"{escape(proof.asset)} of {proof.day} is {verdict}")
