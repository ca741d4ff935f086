"""Repeated hours: which of two instants a local time is that comes twice, by its place in the file.

Belongs here: `repeated_hour: in_file_order`. The first time that such a time comes in its series it is the earlier
instant, the second time the later one; a third is none. Does not belong here: what zones do (`local_time`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources.reading.values.convert import Converter
from etl_project.sources.spec import SourceSpec


class RepeatedHours:
    """The times of one file, taken in its order. `columns`: the places of the columns that are told apart so."""

    def __init__(self, spec: SourceSpec) -> None:
        settings = spec.settings_of_columns
        self._targets = spec.targets
        names = [target.name for target in spec.targets]
        self.columns = [
            at
            for at, target in enumerate(spec.targets)
            if target.name in settings
            and settings[target.name].repeated_hour == "in_file_order"
            and target.type == "TIMESTAMP WITH TIME ZONE"
        ]
        # What names a row but for its time tells its series: the areas of a market, the meters of a house.
        by = spec.rows.repeated_hour_by
        own = by if by is not None else (spec.rows.keys or ((),))[0]
        self._series = {
            column: [names.index(name) for name in own if name in names and names.index(name) != column]
            for column in self.columns
        }
        later = {name: replace(one, repeated_hour="last") for name, one in settings.items()}
        self._later = Converter(ZoneInfo(spec.time_zone), later)
        self._seen: Counter[tuple[Any, ...]] = Counter()

    def settled(self, texts: Sequence[pa.Array], typed: list[pa.Array]) -> list[pa.Array]:
        """The columns of the next records with the right instants, NULL for a time that comes a third time."""
        return [
            self._settled(at, texts[at], typed) if at in self.columns else values for at, values in enumerate(typed)
        ]

    def _settled(self, at: int, texts: pa.Array, typed: list[pa.Array]) -> pa.Array:
        first, last = typed[at], self._later.column(texts, self._targets[at])
        twice = pc.fill_null(pc.not_equal(first, last), False)
        places = pc.indices_nonzero(twice)
        if not len(places):
            return first
        series = zip(*(typed[one].take(places).to_pylist() for one in self._series[at]), strict=True)
        keys = list(series) if self._series[at] else [()] * len(places)
        chosen = []
        for key, early, late in zip(keys, first.take(places), last.take(places), strict=True):
            self._seen[(at, *key, early.as_py())] += 1
            chosen.append({1: early, 2: late}.get(self._seen[(at, *key, early.as_py())], pa.scalar(None, first.type)))
        return pc.replace_with_mask(first, twice, pa.array([one.as_py() for one in chosen], first.type))
