"""Lateness: which day a row belongs to, and how far back a file may reach.

Belongs here: the allowance of a file's day, rows outside it, and the same day of a row as SQL. A file of day D may
carry rows of the UTC days D - `lateness_days` to D; so an event day E is made of the files of E to E + `lateness_days`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources.spec import SourceSpec
from etl_project.storage.sql import quote


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
        if day > self.allowed.last:
            return f"{self.column}: its day {day} lies after the day of the file, {self.allowed.last}"
        return f"{self.column}: its day {day} lies before {self.allowed.first}, the first that this file may carry"


def allowance(spec: SourceSpec, day: date) -> Allowance:
    """What a file of `day` may carry; days before the first one of the source do not exist."""
    return Allowance(max(day - timedelta(days=spec.lateness_days), spec.start_date), day)


def beyond(typed: Sequence[pa.Array], spec: SourceSpec, day: date) -> Beyond | None:
    """The rows that lie outside the allowance of the file's day; None when there are none. A row without a value in
    its event column is not among them: it is no row at all, and somebody else says so."""
    names = [target.name for target in spec.targets]
    if spec.event_column not in names:
        return None  # There is none, or it is computed once the row is there (`row_rules`).
    return outside(typed[names.index(spec.event_column)], spec, day)


def outside(events: pa.Array, spec: SourceSpec, day: date) -> Beyond | None:
    """Which of these values of the event column lie outside the allowance of the file's day; None when none does."""
    assert spec.event_column is not None
    allowed = allowance(spec, day)
    # Leaving the time of day out is what is asked for, so the cast may lose it.
    days = pc.cast(events, pa.date32(), safe=False)
    outside = pc.or_(pc.less(days, pa.scalar(allowed.first)), pc.greater(days, pa.scalar(allowed.last)))
    mask = pc.fill_null(outside, False)
    return Beyond(spec.event_column, days, mask, allowed) if pc.any(mask).as_py() else None


def event_day(spec: SourceSpec) -> str:
    """The day of a row, as SQL over the raw rows."""
    if spec.event_column is None:
        return "batch_date"
    column, kind = of_raw_row(spec, spec.event_column), spec.typed_column(spec.event_column).type
    if kind == "TIMESTAMP WITH TIME ZONE":
        column = f"({column} AT TIME ZONE 'UTC')"
    return f"CAST({column} AS DATE)"


def of_raw_row(spec: SourceSpec, name: str) -> str:
    """A column of the table as SQL over the raw rows: the column itself, or what it is computed from."""
    computed = spec.rows.computed_column(name)
    return quote(name) if computed is None else f"CAST(({computed.sql}) AS {computed.type})"
