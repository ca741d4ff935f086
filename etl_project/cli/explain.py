"""`etl explain`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.markup import escape

from etl_project.cli.common import opened
from etl_project.cli.console import Json, console
from etl_project.proofs import Lines, Origin, chosen, stored_assets
from etl_project.proofs import explain as explaining
from etl_project.storage import UNKNOWN, Commit

Asset = Annotated[str, typer.Argument(help="The stored asset, as `etl status` names it.")]
Day = Annotated[str | None, typer.Option("--day", help="The day (UTC), or another partition key.")]
Where = Annotated[
    str | None, typer.Option("--where", help="Which of its rows, as an SQL condition on its columns; all without it.")
]

_SHOWN_PARTITIONS, _SHOWN_LINES = 5, 20


def explain(asset: Asset, day: Day = None, where: Where = None, as_json: Json = False) -> None:
    """What rows of a day were made of: the input days and rows, files with line numbers, fingerprints, code versions.

    Nothing is changed. Exit code: 0, 1 where no row meets the condition, 2 usage, or a condition that is no SQL.
    """
    with opened(weekly_checks=False) as found:
        targets = stored_assets(found.definitions)
        [target] = chosen(targets, [asset])
        origin = explaining(found.definitions, targets, target, day, where)
    if as_json:
        print(json.dumps(_fields(origin), indent=2))  # noqa: T201
    else:
        for line in _told(origin, 0):
            console.print(escape(line), highlight=False, soft_wrap=True)
    raise typer.Exit(0 if origin.rows or where is None else 1)


def _told(one: Origin, depth: int) -> Iterator[str]:
    """The rows, how they were found, the commits and files behind them, then what they were made of."""
    indent = "  " * depth
    keys = ", ".join(str(key or "all") for key in one.partitions[:_SHOWN_PARTITIONS])
    more = f" and {len(one.partitions) - _SHOWN_PARTITIONS} more" if len(one.partitions) > _SHOWN_PARTITIONS else ""
    how = ""
    if one.by:
        how = f", those that agree in {', '.join(one.by)}"
    elif one.why_all is not None:
        how = f", not narrowed: {one.why_all}"
    yield f"{indent}{'made of ' if depth else ''}{one.asset} {keys}{more}: {one.rows:,} of {one.of_rows:,} rows{how}"
    for key in one.partitions[:_SHOWN_PARTITIONS]:
        if key in one.commits:
            yield f"{indent}  {key or 'all'}: {_commit(one.commits[key])}"
    if one.inputs_changed:
        days = ", ".join(str(key or "all") for key in one.inputs_changed[:_SHOWN_PARTITIONS])
        yield f"{indent}  its inputs are others now than they were then ({days}): they are shown as they are now"
    for lines in one.files:
        yield f"{indent}  {lines.partition}, {lines.file}: lines {_ranges(lines)}"
    if one.own:
        yield f"{indent}  its own earlier rows: explain them by themselves for what they were made of"
    for each in one.inputs:
        yield from _told(each, depth + 1)


def _commit(commit: Commit) -> str:
    inputs = "not checked" if commit.input_hash == UNKNOWN else commit.input_hash[:8]
    back = f", rolled back to commit {commit.restored.sequence}" if commit.restored is not None else ""
    return (
        f"commit {commit.sequence} of {commit.committed_at:%Y-%m-%d %H:%M:%S} (UTC), run {commit.run_id[:8]}, "
        f"code {(commit.code_version or 'none')[:8]}, inputs {inputs}, fingerprint {commit.fingerprint}{back}"
    )


def _ranges(lines: Lines) -> str:
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in lines.lines[:_SHOWN_LINES]]
    more = f" and {len(lines.lines) - _SHOWN_LINES} more ranges" if len(lines.lines) > _SHOWN_LINES else ""
    return ", ".join(shown) + more


def _fields(one: Origin) -> dict[str, Any]:
    return {
        "asset": one.asset,
        "partitions": list(one.partitions),
        "rows": one.rows,
        "of_rows": one.of_rows,
        "narrowed_by": list(one.by),
        "not_narrowed": one.why_all,
        "commits": [
            {
                "partition": commit.partition,
                "sequence": commit.sequence,
                "committed_at": commit.committed_at.isoformat(),
                "run_id": commit.run_id,
                "code_version": commit.code_version,
                "input_hash": commit.input_hash,
                "fingerprint": commit.fingerprint,
            }
            for commit in one.commits.values()
        ],
        "own_earlier_rows": one.own,
        "inputs_changed": list(one.inputs_changed),
        "files": [lines._asdict() for lines in one.files],
        "made_of": [_fields(each) for each in one.inputs],
    }
