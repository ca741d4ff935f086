"""`etl diff`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from typing import Annotated

import typer
from dagster._utils.warnings import disable_dagster_warnings
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from etl_project import utc
from etl_project.cli.console import Json, console
from etl_project.failures import Permanent
from etl_project.proofs import (
    Difference,
    Side,
    Stored,
    chosen,
    difference,
    identifying,
    listing,
    partition_of,
    proof,
    rows_at,
    rows_of_candidate,
    stored_assets,
    subject,
)
from etl_project.settings import Settings
from etl_project.storage import Deviation, in_words

Asset = Annotated[str, typer.Argument(help="The stored asset, as `etl status` names it.")]
Day = Annotated[str | None, typer.Option("--day", help="The day (UTC), or another partition key.")]
Until = Annotated[str | None, typer.Option("--until", help="Compare every day from --day to this one, included.")]
From = Annotated[int | None, typer.Option("--from", help="The commit before; the last one whose rows were replaced.")]
To = Annotated[int | None, typer.Option("--to", help="The commit after; what is there now.")]
Rebuild = Annotated[
    bool, typer.Option("--rebuild", help="Build the day on the side with today's code and inputs, and compare.")
]

Unpublished = Annotated[
    bool, typer.Option("--candidate", help="Compare what is there now with the rows that did not pass their checks.")
]

_WIDTH_IN_A_PIPE = 200

Sides = Callable[[Stored, str | None], AbstractContextManager[tuple[Side, Side] | None]]
"""The two sets of rows of a partition; None where there is nothing to compare with."""


class CannotCompare(Permanent):
    """The two sides are not there, or not named. Retrying does not help."""


def diff(  # noqa: PLR0913, PLR0917  # Options of a command.
    asset: Asset,
    day: Day = None,
    until: Until = None,
    first: From = None,
    last: To = None,
    rebuild: Rebuild = False,
    candidate: Unpublished = False,
    as_json: Json = False,
) -> None:
    """What differs between two versions of a day: rows added, removed and changed by key, columns, sums, examples.

    Nothing is changed. Exit code: 0 the same, 1 something differs, 2 usage, or a version that is not kept.
    """
    if rebuild and (first is not None or last is not None):
        raise CannotCompare("--rebuild compares what is there now with a rebuild: leave --from and --to out.")
    if candidate and (rebuild or first is not None or last is not None):
        raise CannotCompare("--candidate compares what is there now with a candidate: leave the other options out.")
    # Loading the pipelines takes a second.
    from etl_project.definitions import default_resources, load_project  # noqa: PLC0415

    with disable_dagster_warnings():
        project, assets = load_project()

        def targets_in(configured: Settings) -> Sequence[Stored]:
            return stored_assets(assets, default_resources(configured))

        @contextmanager
        def rebuilt(target: Stored, key: str | None) -> Iterator[tuple[Side, Side]]:
            what = subject(assets, targets_in(project.settings), asset, utc.day_of(str(key)))
            with proof.rebuilt_aside(what, targets_in, project.settings) as (store, _):
                new = store.read(target.table, target.scope([key]))
                yield Side(target.store, rows_at(target, key)), Side(store, new)

        [target] = chosen(targets_in(project.settings), [asset])
        sides = rebuilt if rebuild else versions(first, last, strict=until is None)
        days = days_of(target, day, until, candidates=candidate)
        apart = identifying(targets_in(project.settings))
        found = list(compared(target, days, of_candidate if candidate else sides, apart))
    if not found:
        raise CannotCompare(f"{asset}: of none of these days there are two versions to compare; see `etl history`.")
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))  # noqa: T201
    else:
        show(found, examples=until is None)
    raise typer.Exit(0 if all(one.same for one in found) else 1)


def days_of(target: Stored, day: str | None, until: str | None, *, candidates: bool = False) -> Sequence[str | None]:
    """The partitions that are asked for; of a range those that are committed, or have a candidate."""
    first = partition_of(target, day)
    if until is None:
        return [first]
    if first is None or not (utc.is_day(first) and utc.is_day(until)) or until < first:
        raise CannotCompare("--until needs --day, both days like 2025-03-20, the later one last.")
    there = [key for _, key in target.store.last_commits([target.asset])]
    if candidates:
        there = [one.record.partition for one in target.store.candidates([target.asset])]
    return sorted(str(key) for key in there if key is not None and first <= key <= until)


@contextmanager
def of_candidate(target: Stored, key: str | None) -> Iterator[tuple[Side, Side]]:
    """What is there now, nothing where the day was never published, and its candidate."""
    new = rows_of_candidate(target, key)
    published = target.store.last_commits([target.asset], [key])
    old = rows_at(target, key) if published else replace(new, sql=f"SELECT * FROM ({new.sql}) WHERE false")
    yield Side(target.store, old), Side(target.store, new)


def versions(first: int | None, last: int | None, *, strict: bool) -> Sides:
    """Two commits of each day: the ones named, else the newest kept version and what is there now."""

    @contextmanager
    def of(target: Stored, key: str | None) -> Iterator[tuple[Side, Side] | None]:
        before = first
        if before is None:
            listed = listing(target, key)
            kept = [one.sequence for one in listed if one.where == "kept" and (last is None or one.sequence < last)]
            before = max(kept, default=None)
        if before is None:
            if strict:
                raise CannotCompare(
                    f"{target.asset} of {key or 'all'}: there is no kept version to compare with. Set keep_versions to "
                    "keep some from now on, or compare with `--rebuild`."
                )
            yield None
            return
        yield tuple(Side(target.store, rows_at(target, key, at)) for at in (before, last))  # type: ignore[misc]

    return of


def compared(
    target: Stored, keys: Sequence[str | None], sides: Sides, identifiers: Collection[str] = ()
) -> Iterator[Difference]:
    """What differs, partition by partition; the identifiers are not summed."""
    for key in keys:
        with sides(target, key) as both:
            if both is not None:
                yield difference(target, key, *both, identifiers)


def show(found: Sequence[Difference], *, examples: bool) -> None:
    """One line a day; of a single day examples too."""
    sums = list(dict.fromkeys(name for one in found for name in one.sums))
    table = Table(box=None)
    for name in ("Day", "Rows", "Added", "Removed", "Changed", "Columns changed", *(f"sum({n})" for n in sums)):
        table.add_column(escape(name), no_wrap=name != "Columns changed")
    for one in found:
        table.add_row(
            one.partition or "all",
            f"{one.rows_before:,} → {one.rows_after:,}",
            f"{one.added:,}",
            f"{one.removed:,}",
            "no key" if one.changed is None else f"{one.changed:,}",
            escape(", ".join(name if count is None else f"{name} ({count:,})" for name, count in one.columns.items())),
            *(_sum(one, name) for name in sums),
        )
    (console if console.is_terminal else Console(width=_WIDTH_IN_A_PIPE)).print(table)
    if left_out := list(dict.fromkeys(name for one in found for name in one.not_summed)):
        told = f"not summed, being keys: {', '.join(left_out)}"
        console.print(escape(f"  {told}"), highlight=False, soft_wrap=True)
    for one in found if examples else ():
        for line in in_words(Deviation("", (), one.examples, one.note)) if not one.same else ["nothing differs"]:
            console.print(escape(f"  {line}"), highlight=False, soft_wrap=True)


def _sum(one: Difference, name: str) -> str:
    sums = one.sums.get(name)
    if sums is None:
        return ""
    before, after = (value if value is not None else "NULL" for value in sums)
    return before if before == after else f"[yellow]{before} → {after}[/]"
