"""UTC: what day it is, and the only place that reads the clock.

Belongs here: which days a run or a range is about, the conversion between partition keys and dates. Everything else
takes days and instants as arguments, so that a rerun sees the same ones. The daily partition set itself is declared in
`declare`: nothing here needs Dagster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg

UTC = timezone.utc  # The datetime of Python 3.10 has no such name, and the IO managers work with it.
ONE_DAY = timedelta(days=1)
PARTITION_TAG = "dagster/partition"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"


def now() -> datetime:
    """The instant, in UTC. Nothing else in the project reads a clock."""
    return datetime.now(UTC)


def day_of(key: str) -> date:
    """The day that a daily partition key names. Raises ValueError for anything but YYYY-MM-DD."""
    return date.fromisoformat(key)


def days_of(context: dg.AssetExecutionContext) -> list[date]:
    """The days that this step builds: one, or those of a range run."""
    keys = context.partition_key_range
    return list(days_between(day_of(keys.start), day_of(keys.end)))


def is_day(key: str) -> bool:
    """Whether a partition key is a day, written YYYY-MM-DD."""
    try:
        return day_of(key).isoformat() == key
    except ValueError:
        return False


def keys_of_run(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """The first and last partition key a run was asked for, from its tags; None for a run without partitions."""
    if PARTITION_TAG in tags:
        return tags[PARTITION_TAG], tags[PARTITION_TAG]
    if RANGE_START_TAG in tags and RANGE_END_TAG in tags:
        return tags[RANGE_START_TAG], tags[RANGE_END_TAG]
    return None


def days_of_run(tags: Mapping[str, str]) -> tuple[date, date] | None:
    """The first and last day a run was asked for, from its tags; None for a run without partitions, or whose
    partitions are no days: an instance may hold runs of anybody's assets, and none of them may stop who reads them."""
    keys = keys_of_run(tags)
    if keys is None or not all(map(is_day, keys)):
        return None
    return day_of(keys[0]), day_of(keys[1])


def run_tags(first: date | str, last: date | str, dimensions: Sequence[str] = ()) -> dict[str, str]:
    """The tags of a run over these days or other partitions, as Dagster's own backfills set them.

    A partition of several `dimensions` has a tag for each: without them a body is not told which is which.
    """
    if first == last:
        parts = zip(sorted(dimensions), str(first).split("|"), strict=True) if dimensions else ()
        return {PARTITION_TAG: str(first), **{f"{PARTITION_TAG}/{name}": part for name, part in parts}}
    return {RANGE_START_TAG: str(first), RANGE_END_TAG: str(last)}


def days_between(first: date, last: date) -> Iterator[date]:
    """Every day from `first` to `last`, both included, ascending."""
    for offset in range((last - first).days + 1):
        yield first + offset * ONE_DAY


def neighbours(days: Iterable[date]) -> list[tuple[date, date]]:
    """The days as ranges (first, last) of days that follow each other, ascending."""
    ranges: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if ranges and day - ranges[-1][1] == ONE_DAY:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges
