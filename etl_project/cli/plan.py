"""`etl plan`, and what `etl drain --dry-run` shares with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from etl_project import utc
from etl_project.cli import objects
from etl_project.cli.common import Opened, opened
from etl_project.cli.console import Json, console
from etl_project.due import Cause, Deployment, Due, Wish, attempts, by_hand, keys_in_words, look
from etl_project.due import preview as previewing
from etl_project.due import rebuild as rebuilding
from etl_project.failures import Permanent
from etl_project.proofs import rollback, stored_assets

Select = Annotated[
    list[str] | None,
    typer.Option("--select", help="Only this asset and what it is built of; can be given more than once."),
]
Through = Annotated[
    list[str] | None,
    typer.Option("--through", help="As if this asset, which reads itself, were rebuilt in order after a correction."),
]
Code = Annotated[
    bool, typer.Option("--code", help="What other code built than the assets have now: what a backfill would touch.")
]

_WIDTH_IN_A_PIPE = 200
_SHOWN_FILES = 5


class NotTogether(Permanent):
    """Two options exclude each other. Retrying does not help."""


def plan(select: Select = None, through: Through = None, code: Code = False, as_json: Json = False) -> None:
    """What would run now and why, and what becomes due after it. Nothing is run or changed.

    Exit code: 0 shown, 1 shown, and something needs a person (a folder that cannot be read, a day that failed for good,
    a broken pipeline), 2 usage.
    """
    if not code:
        raise typer.Exit(tell(Wish(select=tuple(select or ()), through=tuple(through or ())), as_json))
    if through:
        raise NotTogether("--code looks at code, not at rows: leave --through out.")
    with opened(weekly_checks=False) as found:
        tell_code(found, tuple(select or ()), as_json)
    raise typer.Exit(1 if found.project.broken else 0)


def tell(wish: Wish, as_json: bool = False) -> int:
    """Say what a drain with this wish would do; the exit code."""
    with opened(weekly_checks=False) as found:
        snapshot = look(found.project, utc.now(), found.instance)
        ahead = previewing.preview(_deployment(found), snapshot, wish)
        ahead = replace(ahead, notices=[*ahead.notices, *objects.waiting_in_words(found.project)])
        pinned = [rollback.pin_in_words(one) for one in rollback.pins(stored_assets(found.definitions))]
    if as_json:
        fields = {
            "at": snapshot.at.isoformat(timespec="seconds"),
            "runs": [_run(part.due, part) for part in ahead.runs],
            "failed_for_good": [_run(one) for one in ahead.given_up],
            "now": [_step(one) for one in ahead.now],
            "after": [_step(one) for one in ahead.after],
            "waits": ahead.waits,
            "pinned": pinned,
            "to_look_at": [*ahead.to_look_at, *found.project.broken, *found.project.left_out],
            "notices": [*ahead.notices, *by_hand(found.project.nodes)],
        }
        print(json.dumps(fields, indent=2))  # noqa: T201
    else:
        _show(ahead, pinned, list(by_hand(found.project.nodes)))
    return 1 if ahead.given_up or ahead.to_look_at or found.project.broken else 0


def tell_code(found: Opened, assets: Sequence[str], as_json: bool) -> None:
    """Say which assets have other code than their rows were built by, and what a backfill of those would touch."""
    snapshot = look(found.project, utc.now(), found.instance)
    old = rebuilding.outdated(found.project, snapshot, assets, rebuilding.Span())
    runs = rebuilding.runs_of(found.project, snapshot, old)
    follows = previewing.after_rebuild(_deployment(found), snapshot, runs)
    by_asset: dict[str, list[rebuilding.Outdated]] = {}
    for one in old:
        by_asset.setdefault(one.asset, []).append(one)
    if as_json:
        fields = {
            "at": snapshot.at.isoformat(timespec="seconds"),
            "changed": [_changed(asset, some) for asset, some in by_asset.items()],
            "after": [_step(one) for one in follows],
        }
        print(json.dumps(fields, indent=2))  # noqa: T201
        return
    if not old:
        console.print("Every asset was built by the code that it has now; nothing was run")
        return
    table = _table("Asset", "Partitions", "Which", "Rows", "Built by code", "Code now")
    for asset, some in by_asset.items():
        made_by = ", ".join(f"{version[:8]} ({n:,})" for version, n in _made_by(some).items())
        which = escape(keys_in_words([one.key for one in some]) or "all of it")
        rows = sum(one.rows for one in some)
        table.add_row(escape(asset), f"{len(some):,}", which, f"{rows:,}", made_by, some[0].now[:8])
    _print(table)
    show_after(follows)
    touched = count([(one.asset, one.key) for one in old])
    console.print(
        f"`etl rebuild --stale` would build {touched}: {len(runs)} runs. New code alone asks for nothing; "
        "`etl diff ASSET --day DAY --rebuild` shows what a rebuild of a day changes. Nothing was run",
        highlight=False,
        soft_wrap=True,
    )


def _changed(asset: str, old: Sequence[rebuilding.Outdated]) -> dict[str, Any]:
    return {
        "asset": asset,
        "partitions": sorted(str(one.key) for one in old),
        "rows": sum(one.rows for one in old),
        "built_by": _made_by(old),
        "code_now": old[0].now,
    }


def _made_by(old: Iterable[rebuilding.Outdated]) -> dict[str, int]:
    """How many partitions each code version had built."""
    return dict(Counter(one.made_by or "none" for one in old).most_common())


def _deployment(found: Opened) -> Deployment:
    return Deployment(found.project, {}, found.instance)


def show_steps(steps: Sequence[previewing.Step]) -> None:
    """What is built, by asset and reason."""
    if steps:
        _print(_steps_table(steps))


def show_after(steps: Sequence[previewing.Step]) -> None:
    """What becomes due once something else is built, if its rows are others then."""
    if steps:
        console.print("\nAfter it, as far as rows change:")
    show_steps(steps)


def _show(ahead: previewing.Preview, pinned: Iterable[str], unfollowed: Iterable[str]) -> None:
    if ahead.now:
        console.print("Now:")
    show_steps(ahead.now)
    show_after(ahead.after)
    told = [
        *(("yellow", "tried again", _tried(part)) for part in ahead.runs if attempts.failures_of(part.attempts)),
        *(("red", "failed for good", f"{_whose(one)}: until input or code change") for one in ahead.given_up),
        *(("red", "not taken in", line) for line in ahead.to_look_at),
        *(("yellow", "waits", line) for line in ahead.waits),
        *(("yellow", "pinned", line) for line in pinned),
        *(("yellow", "note", line) for line in (*ahead.notices, *unfollowed)),
    ]
    for colour, what, line in told:
        console.print(f"[{colour}]{what}[/] {escape(line)}", soft_wrap=True, highlight=False)
    console.print(f"{_in_all(ahead)}; nothing was run", highlight=False, soft_wrap=True)


def _in_all(ahead: previewing.Preview) -> str:
    if not ahead.runs:
        return "Nothing is due"
    now, after = count(_pairs(ahead.now)), count(_pairs(ahead.after))
    return f"{len(ahead.runs)} runs are pending: {now}" + (f"; after them {after}" if ahead.after else "")


def _pairs(steps: Iterable[previewing.Step]) -> list[tuple[str, Any]]:
    return [(step.asset, key) for step in steps for key in step.keys]


def count(which: Collection[tuple[str, Any]]) -> str:
    """How many partitions of how many assets these are."""
    return f"{len(which):,} partitions of {len({asset for asset, _ in which})} assets"


def _whose(one: Due) -> str:
    return f"{one.span}: {', '.join(one.assets)}"


def _tried(part: attempts.Part) -> str:
    return f"{_whose(part.due)}: failed {len(attempts.failures_of(part.attempts))} times"


def _steps_table(steps: Iterable[previewing.Step]) -> Table:
    table = _table("Asset", "Partitions", "Which", "Why", "Effect")
    for step in steps:
        which = keys_in_words(step.keys) or "all of it"
        table.add_row(
            *map(escape, (step.asset, f"{len(step.keys):,}", which, why(step.cause), "; ".join(_effect(step))))
        )
    return table


def why(cause: Cause) -> str:
    """Why something is due, for a person."""
    inputs = ", ".join(cause.inputs)
    return {
        "file": "files wait",
        "first": "never built",
        "changed": f"changed since: {inputs}",
        "follows": f"built of {inputs}",
        "asked": "asked for again",
        "unchecked": "a blocking check did not finish",
    }[cause.what]


def _effect(step: previewing.Step) -> Iterable[str]:
    """What is known of what a step does: files by their kind, new partitions, rows that are replaced."""
    if step.files:
        kinds = Counter(file.kind for file in step.files)
        names = ", ".join(file.name for file in step.files[:_SHOWN_FILES])
        more = f" and {len(step.files) - _SHOWN_FILES} more" if len(step.files) > _SHOWN_FILES else ""
        size = sum(file.size_bytes for file in step.files)
        yield f"{', '.join(f'{n:,} {kind}' for kind, n in kinds.items())} ({names}{more}; {size:,} bytes)"
        return
    new = len(step.keys) - step.committed
    if new:
        yield f"{new:,} new"
    if step.committed:
        yield f"{step.committed:,} replaced, {step.rows:,} rows now"


def _run(due: Due, part: attempts.Part | None = None) -> dict[str, Any]:
    failed = attempts.failures_of(part.attempts) if part is not None else []
    return {"first": str(due.first), "last": str(due.last), "assets": list(due.assets), "failed_before": len(failed)}


def _step(step: previewing.Step) -> dict[str, Any]:
    return {
        "asset": step.asset,
        "partitions": [str(key) for key in step.keys],
        "why": step.cause.what,
        "inputs": list(step.cause.inputs),
        "committed": step.committed,
        "rows": step.rows,
        "files": [{**file._asdict(), "day": file.day.isoformat()} for file in step.files],
    }


def _table(*columns: str) -> Table:
    table = Table(box=None)
    for name in columns:
        table.add_column(name, no_wrap=name not in ("Which", "Effect"))
    return table


def _print(table: Table) -> None:
    (console if console.is_terminal else Console(width=_WIDTH_IN_A_PIPE)).print(table)
