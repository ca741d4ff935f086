"""Partitions: the daily UTC partition set, and the only place that reads the clock.

Belongs here: what day it is, which days exist, the conversion between partition keys and dates. Everything else takes
days and instants as arguments, so that a rerun sees the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg

ONE_DAY = timedelta(days=1)


def now() -> datetime:
    """The instant, in UTC. Nothing else in the project reads a clock."""
    return datetime.now(UTC)


def daily(start: date) -> dg.DailyPartitionsDefinition:
    """Every UTC day from `start` on, today included: today's files need not wait for midnight."""
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)


def day_of(key: str) -> date:
    """The day that a daily partition key names. Raises ValueError for anything but YYYY-MM-DD."""
    return date.fromisoformat(key)


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
