"""Lateness: which day a row belongs to, and how far back a file may reach.

Belongs here: the allowance of a file's day, rows outside it, and the same day of a row as SQL. A file of day D may
carry rows of the days D - `lateness_days` to D, in UTC or in the source's `business_zone`; so an event day E is made
of the files of E to E + `lateness_days`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources.spec import SourceSpec
from etl_project.storage import quote


class Allowance(NamedTuple):
    """The event days, both included, that the rows of one file may have."""

    first: date
    last: date


class Beyond(NamedTuple):
    """Rows of a file whose day it may not carry: `mask` says which, `days` the days of all rows."""

    column: str
    days: pa.Array
    mask: pa.Array
    allowed: Allowance

    def why(self, at: int) -> str:
        """In words: why the row at this position is not taken."""
        day = self.days[at].as_py()
        if day is None:
            return f"{self.column}: no value, and date_column says that it is the day of the file in every row"
        if day > self.allowed.last:
            return f"{self.column}: its day {day} lies after the day of the file, {self.allowed.last}"
        return f"{self.column}: its day {day} lies before {self.allowed.first}, the first that this file may carry"


def allowance(spec: SourceSpec, day: date) -> Allowance:
    """What a file of `day` may carry; days before the first one of the source do not exist."""
    return Allowance(max(day - timedelta(days=spec.lateness_days), spec.start_date), day)


def beyond(typed: Sequence[pa.Array], spec: SourceSpec, day: date | None) -> Beyond | None:
    """The rows that lie outside the allowance of the file's day; None when there are none. A row without a value in
    a column that is NOT NULL is not among them: it is no row at all, and somebody else says so."""
    names = [target.name for target in spec.targets]
    column = spec.event_column or spec.date_column
    if column not in names:
        return None  # There is none, or it is computed once the row is there (`row_rules`).
    return outside(typed[names.index(column)], spec, day)


def outside(events: pa.Array, spec: SourceSpec, day: date | None) -> Beyond | None:
    """Which values of the event or date column lie outside the allowance of the file's day; None when none does."""
    column = spec.event_column or spec.date_column
    assert column is not None and day is not None
    allowed = allowance(spec, day)
    days = days_of(events, spec)
    outside = pc.or_(pc.less(days, pa.scalar(allowed.first)), pc.greater(days, pa.scalar(allowed.last)))
    mask = pc.fill_null(outside, spec.typed_column(column).nullable)
    return Beyond(column, days, mask, allowed) if pc.any(mask).as_py() else None


def days_of(values: pa.Array, spec: SourceSpec) -> pa.Array:
    """The days of dates and times; of instants, those in the zone whose days count for the source."""
    zone = spec.business_zone or ("UTC" if spec.event_column else spec.time_zone)
    if pa.types.is_timestamp(values.type) and values.type.tz is not None and zone != "UTC":
        values = pc.local_timestamp(pc.cast(values, pa.timestamp("us", zone)))
    # Leaving the time of day out is what is asked for, so the cast may lose it.
    return pc.cast(values, pa.date32(), safe=False)


def event_day(spec: SourceSpec) -> str:
    """The day of a row, as SQL over the raw rows."""
    if spec.event_column is None:
        return "batch_date"
    column, kind = of_raw_row(spec, spec.event_column), spec.typed_column(spec.event_column).type
    if kind == "TIMESTAMP WITH TIME ZONE":
        # The name of a zone is one of ZoneInfo's: it holds no quote.
        column = f"({column} AT TIME ZONE '{spec.business_zone or 'UTC'}')"
    return f"CAST({column} AS DATE)"


def of_raw_row(spec: SourceSpec, name: str) -> str:
    """A column of the table as SQL over the raw rows: the column itself, or what it is computed from."""
    computed = spec.rows.computed_column(name)
    return quote(name) if computed is None else f"CAST(({computed.sql}) AS {computed.type})"
