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
    "text and bytes": (["a", b"b"], "text and bytes"),
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
    [NAIVE.date(), None, pd.NaT],
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


def test_every_such_column_of_a_frame_is_named() -> None:
    mixed = pd.Series([NAIVE.date(), NAIVE], dtype=object)
    frame = pd.DataFrame({"when": mixed, "kind": pd.Series(["a", b"b"], dtype=object).astype("category"), "n": [1, 2]})
    with pytest.raises(WriteRefused, match=r"(?s)'when'.*dates and moments.*'kind'.*text and bytes") as refused:
        from_pandas(frame)
    assert "'n'" not in str(refused.value)
