"""Own days: the rows of a file that has no day of its own, each under the day that it says itself (`day_from`).

Belongs here: the day of each record, which days they may be, and counting records by day. Does not belong here: which
of the files of a day count (`archive`), reading several days at once (`day_reader`).

What says no day that the file may hold (a record that breaks the grammar, no value, a day that did not exist for the
source when the file came) is a reject under the first day of the file, its home; so are skipped records counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources import lateness

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec


class Span(NamedTuple):
    """The days, both included, that the rows of a file may be of."""

    first: date
    last: date


class OwnDays(NamedTuple):
    """The days of the records of a chunk. `days`: NULL where a record says none that its file may hold; `mask`: which
    of them have a value that is a day, or no value, and so are at fault for nothing but this."""

    column: str
    days: pa.Array
    said: pa.Array
    mask: pa.Array
    span: Span

    def why(self, at: int) -> str:
        """In words: why the record at this position is of no day of its file."""
        day = self.said[at].as_py()
        if day is None:
            return f"{self.column}: empty, and the day of the row comes from it (day_from)"
        if day < self.span.first:
            return f"{self.column}: its day {day} lies before the first day of the source, {self.span.first}"
        why = f"lies ahead; when its file came, the last possible day was {self.span.last}"
        return f"{self.column}: its day {day} {why}"


def of(texts: Sequence[pa.Array], typed: Sequence[pa.Array], spec: SourceSpec, span: Span) -> OwnDays:
    """The day of each record, by the values of its columns."""
    assert spec.day_from is not None
    at = spec.filled.index(spec.day_from)
    said = lateness.days_of(typed[at], spec)
    outside = pc.fill_null(pc.or_(pc.less(said, pa.scalar(span.first)), pc.greater(said, pa.scalar(span.last))), False)
    days = pc.if_else(outside, pa.scalar(None, pa.date32()), said)
    no_text = pc.and_(said.is_null(), texts[at].is_null())
    return OwnDays(spec.day_from, days, said, pc.or_(outside, no_text), span)


def counts(days: pa.Array | pa.ChunkedArray) -> Counter[date | None]:
    """How many records are of each day."""
    return Counter({one["values"]: one["counts"] for one in pc.value_counts(days).to_pylist()})
