"""Objects: values of Python that one column of Arrow would take for others than they are.

Belongs here: finding, in columns of objects and in dictionaries, what Arrow converts without a word: the time of day of
a datetime beside dates, nanoseconds of a Timestamp, a time's zone, text beside bytes, a time without a zone beside
others that have one. What Arrow refuses by itself is not looked for.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

_MISSING: frozenset[type] = frozenset({type(pd.NaT)})
"""It counts as a datetime, and has no zone and no time of day."""

_PLAIN: frozenset[type] = frozenset({int, str, type(None)})
"""Of these alone nothing can be lost, and most columns have no others."""


def lost(values: Iterable[Any], *, nan_is_missing: bool = True) -> str | None:
    """What would be lost of these values of one column, at any depth, in words; None where nothing would.

    `nan_is_missing`: a Decimal that is no number is a missing value, as pandas has it; it has no other home.
    """
    values = list(values)
    kinds = set(map(type, values))
    if kinds <= _PLAIN and not {int, str} <= kinds:
        return None
    found = _of_kinds(kinds, values) or _of_values(kinds, values, nan_is_missing)
    if found:
        return found
    return next(
        (said for inner in _inside(kinds, values) if (said := lost(inner, nan_is_missing=nan_is_missing))), None
    )


def refusal(column: str, what: str) -> str:
    """The error of a column of which something would be lost."""
    return (
        f"Column {column!r} cannot be stored as it is: {what}. Nothing was changed; retrying does not help. Give all "
        "values of a column one type."
    )


def _of_kinds(kinds: set[type], values: Sequence[Any]) -> str | None:
    """Two kinds of values of which Arrow makes one."""
    moments = any(issubclass(kind, dt.datetime) for kind in kinds - _MISSING)
    dates = any(issubclass(kind, dt.date) and not issubclass(kind, dt.datetime) for kind in kinds)
    if moments and dates:
        return "it has dates and moments, and one of them would be stored as the other"
    if any(issubclass(kind, bytes | bytearray) for kind in kinds) and any(issubclass(kind, str) for kind in kinds):
        return "it has text and bytes, and one of them would be stored as the other"
    truths = any(issubclass(kind, bool | np.bool_) for kind in kinds)
    floats = [kind for kind in kinds if issubclass(kind, float | np.floating)]
    if truths and floats and any(not np.isnan(value) for value in values if isinstance(value, float | np.floating)):
        return "it has numbers and booleans, and one of them would be stored as the other"
    return None


def _of_values(kinds: set[type], values: Sequence[Any], nan_is_missing: bool) -> str | None:
    """A part of a value for which no column has room."""
    if any(issubclass(kind, dt.datetime) for kind in kinds - _MISSING):
        moments = [value for value in values if isinstance(value, dt.datetime) and type(value) not in _MISSING]
        if len({moment.tzinfo is None for moment in moments}) > 1:
            return "it has moments with and without a zone, and the others would be taken for UTC"
        if any(getattr(moment, "nanosecond", 0) for moment in moments):
            return "it has moments in nanoseconds, which only the type datetime64[ns] keeps"
    if any(issubclass(kind, dt.time) for kind in kinds) and any(
        value.tzinfo is not None for value in values if isinstance(value, dt.time)
    ):
        return "it has times of day with a zone, which would be lost"
    if pd.Timedelta in kinds and any(value.nanoseconds for value in values if isinstance(value, pd.Timedelta)):
        return "it has spans in nanoseconds, and they are kept in microseconds"
    if Decimal in kinds and not nan_is_missing and any(v.is_nan() for v in values if isinstance(v, Decimal)):
        return "it has a Decimal that is no number (NaN); give None for a missing one"
    return None


def _inside(kinds: set[type], values: Sequence[Any]) -> Iterator[list[Any]]:
    """The values one level deeper: those of each key of dictionaries, and those of all lists together."""
    if any(issubclass(kind, Mapping) for kind in kinds):
        records = [value for value in values if isinstance(value, Mapping)]
        for key in dict.fromkeys(key for record in records for key in record):
            yield [record[key] for record in records if key in record]
    if any(issubclass(kind, _LISTS) for kind in kinds):
        yield [value for several in values if isinstance(several, _LISTS) for value in _elements(several)]


_LISTS = (list, tuple, set, frozenset, np.ndarray)


def _elements(several: Any) -> Iterable[Any]:
    """Values of Python; an array of numbers or of moments has one type, and is Arrow's to convert."""
    if isinstance(several, np.ndarray):
        return several if several.dtype == object else ()
    return several  # type: ignore[no-any-return]
