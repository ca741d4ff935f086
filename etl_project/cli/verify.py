"""`etl verify`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Annotated

import typer
from rich.markup import escape

from etl_project import utc
from etl_project.cli.common import Opened, opened
from etl_project.cli.console import Json, console
from etl_project.cli.progress import Progress
from etl_project.proofs import ADVICE, DaySpan, rollback, targets, whole
from etl_project.storage import Finding

_SHOWN = 10

Assets = Annotated[list[str] | None, typer.Option("--asset", help="Only this asset; may be given more than once.")]
From = Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day to look at (UTC).")]
To = Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day to look at (UTC).")]
Repair = Annotated[bool, typer.Option("--repair", help="Write the events that Dagster's history lacks; nothing else.")]
Deep = Annotated[bool, typer.Option("--deep", help="Hash the archived files too: reads every byte of them.")]


def verify(
    asset: Assets = None,
    first: From = None,
    last: To = None,
    repair: Repair = False,
    deep: Deep = False,
    as_json: Json = False,
) -> None:
    """Compare tables and files with their commit records and with Dagster's history.

    Exit code: 0 nothing is wrong, 1 something is, 2 usage, or the warehouse was busy for longer than ETL_WAIT_SECONDS.
    """
    window = DaySpan(first.date() if first else None, last.date() if last else None)
    with opened() as found:
        chosen = targets.chosen(targets.stored_assets(found.definitions), asset or [])
        archive = _archive(found) if deep else None
        whole_archive = None if asset else _whole_archive(found)
        done = whole.verify(
            found.instance,
            chosen,
            window,
            repair=repair,
            deep=archive,
            archived_by=whole_archive,
            on_asset=Progress().done,
        )
        pinned = rollback.pins(chosen)
    if as_json:
        print(json.dumps(done.as_json(), indent=2))  # noqa: T201
    else:
        show(done)
        for commit in pinned:
            _say(f"[yellow]pinned[/]: {escape(rollback.pin_in_words(commit))}")
    raise typer.Exit(0 if done.sound else 1)


def _whole_archive(found: Opened) -> whole.Archive:
    project = found.project
    return whole.Archive(project.settings.archive, project.sources, project.lake)


def _archive(found: Opened) -> whole.Deep:
    project = found.project
    return whole.Deep(project.settings.archive, tuple(spec.name for spec in project.sources))


def show(done: whole.Verified) -> None:
    """What is wrong, by asset and kind, and what to do about each kind."""
    for asset, kind, found in _grouped(done.findings):
        _say(f"[bold red]{kind}[/] [bold]{escape(asset)}[/] {', '.join(_days(found))}")
        for line in _told(found):
            _say(f"    {escape(line)}")
    for kind in sorted({finding.kind for finding in done.findings}):
        _say(f"[bold]{kind}[/]: {escape(ADVICE[kind])}")
    if done.counted:
        _say(
            f"[yellow]counted only[/]: {done.counted:,} partitions were committed with an earlier kind of fingerprint; "
            "their rows were counted, not compared. The next commit of each can be compared."
        )
    repaired = sum(finding.repaired for finding in done.findings)
    _say(
        f"{len(done.assets)} assets, {done.partitions:,} committed partitions, {done.rows:,} rows: "
        + (f"{len(done.findings):,} findings" if done.findings else "nothing is wrong")
        + (f", {repaired:,} of them repaired now" if repaired else "")
    )


def _say(line: str) -> None:
    """One line, however long: paths are to be copied."""
    console.print(line, highlight=False, soft_wrap=True)


def _grouped(findings: Iterable[Finding]) -> Iterator[tuple[str, str, list[Finding]]]:
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.asset, finding.kind), []).append(finding)
    for (asset, kind), found in groups.items():
        yield asset, kind, found


def _told(found: Sequence[Finding]) -> Iterator[str]:
    """The first findings in full."""
    for finding in found[:_SHOWN]:
        day = f"{finding.partition}: " if len(found) > 1 and finding.partition else ""
        yield f"{day}{finding.where}: {finding.found}"
    if len(found) > _SHOWN:
        yield f"and {len(found) - _SHOWN:,} more (`--json` lists all)"


def _days(found: Sequence[Finding]) -> list[str]:
    """The partitions of these findings; neighbouring days as one range."""
    days, others = set[date](), set[str]()
    for finding in found:
        try:
            days.add(utc.day_of(finding.partition or ""))
        except ValueError:
            others.add(finding.partition or "(no partition)")
    ranges = [str(a) if a == b else f"{a} to {b}" for a, b in utc.neighbours(days)]
    shown = [*sorted(others), *ranges]
    more = [f"and {len(shown) - _SHOWN} more ranges"] if len(shown) > _SHOWN else []
    return [*shown[:_SHOWN], *more]
