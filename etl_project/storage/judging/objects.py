"""Objects: values of Python that one column of Arrow would take for others than they are.

Belongs here: finding, in columns of objects and in dictionaries, what Arrow converts without a word: values of two
kinds (dates beside moments or numbers, text beside bytes), nanoseconds of a Timestamp, a time's zone, a time without a
zone beside others that have one. Kinds are told apart, whether Arrow would mix them or not; what else it refuses is not
looked for.
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

_LISTS = (list, tuple, set, frozenset, np.ndarray)

_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "booleans": (bool, np.bool_),
    "moments": (dt.datetime, np.datetime64),
    "dates": dt.date,
    "times of day": dt.time,
    "spans of time": (dt.timedelta, np.timedelta64),
    "numbers": (int, float, Decimal, np.number),
    "bytes": (bytes, bytearray, memoryview),
    "text": str,
    "records": Mapping,
    "lists": _LISTS,
}
"""What a value is: the first of these that its type belongs to (a truth is an int, too, and a moment a date)."""

_MAY_BE_NAN = (float, np.floating, np.datetime64, np.timedelta64)


def lost(values: Iterable[Any], *, nan_is_missing: bool = True) -> str | None:
    """What would be lost of these values of one column, at any depth, in words; None where nothing would.

    `nan_is_missing`: what is no number and no moment (NaN, NaT) is a missing value, as pandas has it.
    """
    values = list(values)
    kinds = set(map(type, values))
    if kinds <= _PLAIN and not {int, str} <= kinds:
        return None
    found = _of_kinds(kinds, values, nan_is_missing) or _of_values(kinds, values, nan_is_missing)
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


def _of_kinds(kinds: set[type], values: Sequence[Any], nan_is_missing: bool) -> str | None:
    """Two kinds of values of which Arrow makes one: the number 0 beside dates is the first of January 1970 for it."""
    if type(pd.NaT) in kinds and not nan_is_missing:
        return "it has pandas' sign for a missing moment (NaT); give None instead"
    if len(_names_of(kinds)) < 2:
        return None
    if nan_is_missing:
        sure = {kind for kind in kinds if not issubclass(kind, _MAY_BE_NAN)}
        kinds = sure | {type(value) for value in values if isinstance(value, _MAY_BE_NAN) and value == value}  # noqa: PLR0124
    names = _names_of(kinds)
    if len(names) < 2:
        return None
    return f"it has {' and '.join(names)}, and one of them would be stored as the other"


def _names_of(kinds: set[type]) -> list[str]:
    """What such values are, without those that are no value, and those that are Arrow's alone to judge."""
    found = {next((name for name, types in _KINDS.items() if issubclass(kind, types)), "") for kind in kinds - _MISSING}
    return [name for name in reversed(list(_KINDS)) if name in found]


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


def _elements(several: Any) -> Iterable[Any]:
    """Values of Python; an array of numbers or of moments has one type, and is Arrow's to convert."""
    if isinstance(several, np.ndarray):
        return several if several.dtype == object and several.ndim else ()
    return several  # type: ignore[no-any-return]
