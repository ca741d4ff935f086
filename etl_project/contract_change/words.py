"""Words: a plan for a person, and for scripts.

Belongs here: how it is said. Nothing is decided.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from etl_project import utc
from etl_project.contract_change.plan import Change, Plan
from etl_project.due import keys_in_words


def in_words(found: Plan) -> Iterator[str]:
    """What differs and what becomes of it, line by line."""
    for change in found.changes:
        yield from _of_change(change)
    for source, days in found.rebuilt_files.items():
        yield f"{source}: the archive is read again for {_days(days)} (raw rows and rejects)"
    for name in found.done_with:
        yield f"{name}: all its days are built again: it goes"
    for one in found.unfit_files:
        yield f"does not fit any more: {one}"


def as_json(found: Plan) -> dict[str, Any]:
    """Plain values."""
    return {
        "changes": [
            {
                "asset": change.asset,
                "differences": [one._asdict() for one in change.differences],
                "built_again": {str(key): why for key, why in change.again.items()},
                "carried_over": [str(key) for key in change.kept],
                "not_in_the_archive": [str(key) for key in change.gone],
                "rows_without_a_place": [one._asdict() for one in change.unfit],
                "breaks": [{"name": name, "why": why} for name, why in change.breaks],
            }
            for change in found.changes
        ],
        "archive_read_again": {
            source: {str(day): why for day, why in days.items()} for source, days in found.rebuilt_files.items()
        },
        "unfit_files": [{**one._asdict(), "day": str(one.day), "path": str(one.path)} for one in found.unfit_files],
        "set_aside_tables_to_drop": list(found.done_with),
        "refusals": found.refusals(()),
    }


def _of_change(change: Change) -> Iterator[str]:
    yield from (f"{change.asset}: {one.said}" for one in change.differences)
    yield from (f"{change.asset}: {one}" for one in change.unfit)
    yield from (f"{change.asset}: {name} would not work any more: {why}" for name, why in change.breaks)
    if change.kept:
        yield f"{change.asset}: carried over as they are: {_days(change.kept)}"
    reasons: dict[str, list[str | None]] = {}
    for key, why in change.again.items():
        reasons.setdefault(why, []).append(key)
    for why, keys in reasons.items():
        yield f"{change.asset}: carried over, and built again by the next `etl drain`: {_days(keys)}: {why}"
    if change.gone:
        yield (
            f"{change.asset}: carried over, and never built again, for the archive has no file of them: "
            f"{_days(change.gone)}"
        )
    if change.by_hand:
        yield f"{change.asset}: {change.by_hand}"


def _days(keys: Collection[Any]) -> str:
    """Partitions with their number."""
    known = [utc.day_of(key) if isinstance(key, str) and utc.is_day(key) else key for key in keys]
    return f"{keys_in_words(known)} ({len(known)})" if known != [None] else "the whole table"
