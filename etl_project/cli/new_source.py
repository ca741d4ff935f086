"""`etl new-source`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from etl_project.cli.console import console
from etl_project.failures import Permanent


class NowhereToWrite(Permanent):
    """The package is installed: what is written into it would be lost with the next update. Name a folder."""


def new_source(
    name: Annotated[str, typer.Argument(help="Name of the source: of its folder, its table and its drop folder.")],
    sample: Annotated[
        list[Path],
        typer.Option("--from", help="A file as it will come, or a folder of them; may be given several times."),
    ],
    folder: Annotated[
        Path | None, typer.Option("--to", help="Where to write NAME/; default: the project's pipelines folder.")
    ] = None,
) -> None:
    """Write the two files of a source, guessed from a sample file, and say what to review. Nothing is overwritten."""
    # Both import Dagster, which takes a second: only this command pays for it.
    from etl_project.definitions import load_project, pipelines  # noqa: PLC0415
    from etl_project.new_source import make  # noqa: PLC0415

    target = folder or writable(Path(next(iter(pipelines().__path__))))
    project, _ = load_project(strict=False)
    made = make(name, sample, target, taken=[node.asset for node in project.nodes], ask=asked)
    console.print(f"[bold]{escape(str(made.folder))}[/] is written: defs.yaml, contract.sql")
    samples = "The sample" if made.samples == 1 else f"{made.samples} samples"
    console.print(f"{samples}: {made.accepted:,} rows accepted, {made.rejected:,} rejected")
    console.print("Review:")
    for point in made.review:
        console.print(f"  • {escape(point)}", highlight=False)
    drop = project.settings.incoming / name
    drop.mkdir(parents=True, exist_ok=True)
    console.print(f"Next: drop the files into {escape(str(drop))}, then `etl drain`", highlight=False)


def asked(question: str, answers: Sequence[str]) -> str | None:
    """What a person answers; None where nobody sits before the screen, or none of the answers is right."""
    if not sys.stdin.isatty():
        return None
    console.print(escape(question))
    for number, answer in enumerate(answers, 1):
        console.print(f"  {number}  {escape(answer)}", highlight=False)
    given = typer.prompt("1 or 2; 0 leaves it as text", default="0").strip()
    return answers[int(given) - 1] if given in [str(number) for number in range(1, len(answers) + 1)] else None


def writable(pipelines: Path) -> Path:
    """The folder of the pipelines. Raises NowhereToWrite where it is installed."""
    if not {"site-packages", "dist-packages"} & set(pipelines.parts):
        return pipelines
    raise NowhereToWrite(
        f"the pipelines are installed in {pipelines}, where the next update would remove your source: say --to FOLDER "
        "with the folder of a package of your own, and name that package in ETL_PIPELINES, like shop.pipelines."
    )
