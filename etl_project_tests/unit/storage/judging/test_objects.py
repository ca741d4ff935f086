"""Python values that Arrow would take for others are found, at any depth; others are left alone."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from etl_project.storage.contract import WriteRefused
from etl_project.storage.judging import objects
from etl_project.storage.judging.payload import from_pandas

NOON = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)
NAIVE = NOON.replace(tzinfo=None)
NANO = pd.Timestamp("2024-01-01 00:00:00.000000001")
LOST: dict[str, tuple[Sequence[Any], str]] = {
    "a date, then a moment": ([NAIVE.date(), NAIVE], "dates and moments"),
    "a moment, then a date": ([NAIVE, NAIVE.date()], "dates and moments"),
    "with and without a zone": ([NOON, NAIVE], "with and without a zone"),
    "a date, then nothing as a number": ([NAIVE.date(), 0], "numbers and dates"),
    "a moment that was filled up": ([pd.Timestamp(NAIVE), np.nan, 0.0], "numbers and moments"),
    "a time and a span in numbers": ([dt.time(1), Decimal(5)], "numbers and times of day"),
    "spans and numbers": ([dt.timedelta(1), np.int64(5)], "numbers and spans of time"),
    "moments and numbers of numpy": ([np.datetime64(NAIVE), np.int64(5)], "numbers and moments"),
    "text and bytes": (["a", b"b"], "text and bytes"),
    "a truth of numpy and whole numbers": ([np.bool_(True), 7], "numbers and booleans"),
    "truths and numbers": ([1.5, True], "numbers and booleans"),
    "a time with a zone": ([dt.time(1, tzinfo=dt.UTC)], "times of day with a zone"),
    "nanoseconds": ([NANO, None], "moments in nanoseconds"),
    "a span in nanoseconds": ([pd.Timedelta(1, "ns")], "spans in nanoseconds"),
}
KEPT: list[Sequence[Any]] = [
    ["a", None, float("nan")],
    [1, 2.5, None, float("nan")],
    [True, None, float("nan"), pd.NA],
    [NOON, NOON.astimezone(dt.timezone(dt.timedelta(hours=2))), pd.NaT],
    [NAIVE.date(), None, pd.NaT, np.float64("nan"), pd.NA, np.datetime64("NaT")],
    [1, np.int8(2), np.float32(1.5), Decimal(3)],
    [dt.timedelta(1), pd.Timedelta(1, "D"), np.timedelta64("NaT")],
    [np.array(None, dtype=object), np.array([None, "a"], dtype=object)],
    [NAIVE, pd.Timestamp("2024-01-01"), pd.NaT, None],
    [{"a": 1, "b": "x"}, {"a": 2, "b": None}, {}],
    [{"a": NAIVE.date(), "b": NAIVE}],
    [[1, 2], [], None, (3,), np.array([1.5])],
    [Decimal("1.5"), 1, None],
    [b"a", bytearray(b"b")],
    [enum.StrEnum("Colour", ["red"]).red, "blue"],
    [],
]


@pytest.mark.parametrize("name", LOST)
def test_what_arrow_would_take_for_something_else_is_found_at_any_depth(name: str) -> None:
    values, said = LOST[name]
    for column in (values, [list(values)], [{"a": value} for value in values], [{"a": [{"b": list(values)}]}, None]):
        assert said in (objects.lost(column) or "")


@pytest.mark.parametrize("n", range(len(KEPT)))
def test_what_keeps_its_values_is_left_alone(n: int) -> None:
    assert objects.lost(KEPT[n]) is None


def test_a_decimal_that_is_no_number_is_missing_for_pandas_and_refused_elsewhere() -> None:
    values = [Decimal("NaN"), Decimal(1)]
    assert objects.lost(values) is None
    assert "no number" in (objects.lost(values, nan_is_missing=False) or "")


@pytest.mark.parametrize("values", [[NAIVE.date(), pd.NaT], [[True], [float("nan")]]])
def test_what_is_missing_for_pandas_alone_is_refused_in_rows_that_are_none_of_its(values: list[Any]) -> None:
    """Arrow makes the first day of the year 1 of the one, and a number of the truth beside the other."""
    assert objects.lost(values) is None
    assert objects.lost(values, nan_is_missing=False) is not None


def test_every_such_column_of_a_frame_is_named() -> None:
    mixed = pd.Series([NAIVE.date(), NAIVE], dtype=object)
    frame = pd.DataFrame({"when": mixed, "kind": pd.Series(["a", b"b"], dtype=object).astype("category"), "n": [1, 2]})
    with pytest.raises(WriteRefused, match=r"(?s)'when'.*dates and moments.*'kind'.*text and bytes") as refused:
        from_pandas(frame)
    assert "'n'" not in str(refused.value)
