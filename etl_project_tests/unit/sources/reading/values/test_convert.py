"""What text is a value of which type: strictly, and never silently lossy."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl_project.sources.reading.values import convert
from etl_project.sources.reading.values.convert import Converter
from etl_project.sources.spec import SourceColumn

LONDON = ZoneInfo("Europe/London")
naive = datetime.fromisoformat


def converted(texts: list[str | None], kind: str, zone: ZoneInfo = LONDON) -> list[Any]:
    return Converter(zone).column(pa.array(texts, pa.string()), SourceColumn("c", kind)).to_pylist()  # type: ignore[no-any-return]


def why_not(text: str, kind: str) -> str:
    assert converted([text], kind) == [None]
    return Converter(LONDON).why_not(text, SourceColumn("c", kind))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("INTEGER", "17850.0", 17850),
        ("INTEGER", "-5", -5),
        ("INTEGER", "+5", 5),
        ("INTEGER", "007", 7),
        ("INTEGER", "2147483647", 2147483647),
        ("BIGINT", "9007199254740993", 9007199254740993),
        ("BIGINT", "-9223372036854775808.000", -(2**63)),
        ("UTINYINT", "255", 255),
        ("DECIMAL(12,3)", "2.55", Decimal("2.550")),
        ("DECIMAL(12,3)", "-0.001", Decimal("-0.001")),
        ("DECIMAL(12,3)", "1.23000000", Decimal("1.230")),
        ("DECIMAL(12,3)", ".5", Decimal("0.500")),
        ("DECIMAL(12,3)", "000000000000000000123456789.1", Decimal("123456789.100")),
        ("DECIMAL(38,0)", "9" * 38, Decimal("9" * 38)),
        ("DECIMAL(3,3)", "0.125", Decimal("0.125")),
        ("DECIMAL(3,3)", ".125", Decimal("0.125")),
        ("DOUBLE", "0.1", 0.1),
        ("DOUBLE", "-1.5E-3", -0.0015),
        ("DOUBLE", "+2", 2.0),
        ("BOOLEAN", "True", True),
        ("BOOLEAN", "f", False),
        ("BOOLEAN", "0", False),
        ("VARCHAR", "  kept as it is ", "  kept as it is "),
        ("DATE", "2024-02-29", date(2024, 2, 29)),
        ("TIMESTAMP", "2024-02-29 23:59:59.123456", naive("2024-02-29 23:59:59.123456")),
        ("TIMESTAMP", "2024-02-29T23:59", naive("2024-02-29 23:59")),
        ("TIMESTAMP", "2024-02-29 23:59:59.123456000", naive("2024-02-29 23:59:59.123456")),
        ("TIMESTAMP", "0001-01-01 00:00:00", naive("0001-01-01")),
        ("TIMESTAMP WITH TIME ZONE", "2024-07-01 12:00:00", datetime(2024, 7, 1, 11, tzinfo=UTC)),
        ("TIMESTAMP WITH TIME ZONE", "2024-07-01T12:00:00Z", datetime(2024, 7, 1, 12, tzinfo=UTC)),
        ("TIMESTAMP WITH TIME ZONE", "2024-07-01 12:00:00.5+05:30", datetime(2024, 7, 1, 6, 30, 0, 500000, tzinfo=UTC)),
        ("TIMESTAMP WITH TIME ZONE", "2024-07-01 12:00-0800", datetime(2024, 7, 1, 20, tzinfo=UTC)),
        ("TIMESTAMP WITH TIME ZONE", "2024-07-01 12:00:00+02", datetime(2024, 7, 1, 10, tzinfo=UTC)),
    ],
)
def test_a_text_that_is_a_value(kind: str, text: str, value: Any) -> None:
    (found,) = converted([text], kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("INTEGER", "1,234", "c: '1,234' is no INTEGER"),
        ("INTEGER", "1.5", "is no INTEGER"),
        ("INTEGER", "1e3", "is no INTEGER"),
        ("INTEGER", "0x1F", "is no INTEGER"),
        ("INTEGER", "1_000", "is no INTEGER"),
        ("INTEGER", " 1", "is no INTEGER"),
        ("INTEGER", "1\n", "is no INTEGER"),
        ("INTEGER", "٣", "is no INTEGER"),
        ("INTEGER", "+-1", "is no INTEGER"),
        ("INTEGER", "1.", "is no INTEGER"),
        ("INTEGER", "2147483648", "is out of range for INTEGER"),
        ("INTEGER", "9" * 400, "is out of range for INTEGER"),
        ("UTINYINT", "-1", "is out of range"),
        ("DECIMAL(12,3)", "1.2345", "has more digits than DECIMAL(12,3) holds"),
        ("DECIMAL(12,3)", "1234567890.1", "has more digits"),
        ("DECIMAL(12,3)", "1e3", "is no DECIMAL"),
        ("DECIMAL(12,3)", "NaN", "is no DECIMAL"),
        ("DECIMAL(12,3)", "1,5", "is no DECIMAL"),
        ("DECIMAL(12,3)", ".", "is no DECIMAL"),
        ("DECIMAL(3,3)", "1.0", "has more digits"),
        ("DOUBLE", "NaN", "is no DOUBLE"),
        ("DOUBLE", "inf", "is no DOUBLE"),
        ("DOUBLE", "-Infinity", "is no DOUBLE"),
        ("DOUBLE", "1e999", "is no DOUBLE"),
        ("DOUBLE", "1,234", "is no DOUBLE"),
        ("BOOLEAN", "yes", "is no BOOLEAN"),
        ("DATE", "2023-02-29", "does not exist"),
        ("DATE", "0000-01-01", "is no DATE"),
        ("DATE", "29/02/2024", "is no DATE"),
        ("DATE", "2024-2-9", "is no DATE"),
        ("TIMESTAMP", "2024-02-30 00:00:00", "does not exist"),
        ("TIMESTAMP", "0000-01-01 00:00:00", "is no TIMESTAMP"),
        ("TIMESTAMP", "2024-02-01 24:00:00", "does not exist"),
        ("TIMESTAMP", "2024-02-01 23:59:60", "does not exist"),
        ("TIMESTAMP", "2024-02-01", "is no TIMESTAMP"),
        ("TIMESTAMP", "2024-02-01 10:00:00.1234567", "is no TIMESTAMP"),
        ("TIMESTAMP", "2024-02-01 10:00:00Z", "has an offset, and a TIMESTAMP none"),
        ("TIMESTAMP WITH TIME ZONE", "2024-03-31 01:30:00", "'2024-03-31 01:30:00' does not exist in Europe/London"),
        ("TIMESTAMP WITH TIME ZONE", "2024-02-30 01:30:00", "does not exist"),
        ("TIMESTAMP WITH TIME ZONE", "2024-02-30 01:30:00Z", "does not exist"),
        ("TIMESTAMP WITH TIME ZONE", "2024-02-20 01:30:00+25:00", "does not exist"),
        ("TIMESTAMP WITH TIME ZONE", "0001-01-01 00:00:00+01:00", "does not exist"),
        ("TIMESTAMP WITH TIME ZONE", "9999-12-31 23:30:00-01:00", "does not exist"),
        ("TIMESTAMP WITH TIME ZONE", "9999-12-31 23:30:00-24:00", "does not exist"),
        ("TIMESTAMP WITH TIME ZONE", "2024-02-20 01:30:00 Europe/London", "is no TIMESTAMP"),
    ],
)
def test_a_text_that_is_no_value(kind: str, text: str, reason: str) -> None:
    assert reason in why_not(text, kind)


@pytest.mark.parametrize("kind", ["TINYINT", "UTINYINT", "BIGINT", "DECIMAL(3,1)", "DECIMAL(3,3)", "DECIMAL(4,0)"])
def test_plain_digits_mean_the_same_on_the_short_way_and_on_the_long_one(kind: str) -> None:
    texts = ["".join(letters) for length in range(5) for letters in product("019.-", repeat=length)]
    *long_way, _ = converted([*texts, "+1"], kind)
    assert [converted([text], kind) for text in texts] == [[value] for value in long_way]


def test_one_bad_text_among_many_good_ones_costs_that_one_alone() -> None:
    texts: list[str | None] = [str(number) for number in range(10_000)]
    texts[1234] = "9" * 30
    texts[77] = None
    found = converted(texts, "BIGINT")
    assert [at for at, value in enumerate(found) if value is None] == [77, 1234]
    assert found[9999] == 9999


def test_an_hour_that_comes_twice_means_its_first_time() -> None:
    twice, after = converted(["2024-10-27 01:30:00", "2024-10-27 02:00:00"], "TIMESTAMP WITH TIME ZONE")
    assert twice == datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
    assert after == datetime(2024, 10, 27, 2, 0, tzinfo=UTC)


def test_a_skipped_hour_is_skipped_to_the_microsecond() -> None:
    texts: list[str | None] = [
        "2024-03-31 00:59:59.999999",
        "2024-03-31 01:00:00",
        "2024-03-31 01:59:59.999999",
        "2024-03-31 02:00",
    ]
    found = converted(texts, "TIMESTAMP WITH TIME ZONE")
    assert found[0] == datetime(2024, 3, 31, 0, 59, 59, 999999, tzinfo=UTC)
    assert found[1:3] == [None, None]
    assert found[3] == datetime(2024, 3, 31, 1, tzinfo=UTC)


def test_an_offset_that_changes_within_a_minute_is_exact() -> None:
    """New York left local mean time (-4:56:02) at 12:03:58 local time on 1883-11-18: 3:58 minutes came twice."""
    texts: list[str | None] = ["1883-11-18 12:03:57", "1883-11-18 12:03:59"]
    zone = ZoneInfo("America/New_York")
    for text, found in zip(texts, converted(texts, "TIMESTAMP WITH TIME ZONE", zone), strict=True):
        assert found == naive(str(text)).replace(tzinfo=zone).astimezone(UTC)


@given(
    st.lists(st.datetimes(min_value=naive("0001-01-03"), max_value=naive("9999-12-29")), min_size=1, max_size=20),
    st.sampled_from(["Europe/London", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe"]),
)
def test_local_times_mean_what_python_says_they_mean(moments: list[datetime], zone_name: str) -> None:
    zone = ZoneInfo(zone_name)
    texts: list[str | None] = [moment.isoformat(" ") for moment in moments]
    for moment, found in zip(moments, converted(texts, "TIMESTAMP WITH TIME ZONE", zone), strict=True):
        instant = moment.replace(tzinfo=zone).astimezone(UTC)
        exists = instant.astimezone(zone).replace(tzinfo=None) == moment
        assert found == (instant if exists else None)


_NUMERIC = st.text("0123456789+-.eE ,_x", max_size=14)
_TEMPORAL = st.from_regex(
    r"[0-9]{4}-[0-9]{2}-[0-3][0-9][ T][0-2][0-9]:[0-9]{2}(:[0-9]{2}(\.[0-9]{0,8})?)?", fullmatch=True
)


@given(st.lists(_NUMERIC | _TEMPORAL, max_size=30), st.sampled_from(["INTEGER", "DECIMAL(8,2)", "DOUBLE", "TIMESTAMP"]))
def test_whole_columns_are_converted_like_single_texts(texts: list[str], kind: str) -> None:
    """Arrow's casts, which do the bulk, agree with the definition of each type."""
    arrow = SourceColumn("c", kind).arrow
    one_by_one = []
    for text in texts:
        (allowed,) = convert._only(pa.array([text], pa.string()), convert._pattern(arrow)).to_pylist()
        normal = None if allowed is None else allowed.split(".")[0] if kind == "INTEGER" else allowed
        value = None if normal is None else convert._one(normal, arrow)
        one_by_one.append(None if isinstance(value, float) and abs(value) == float("inf") else value)
    assert converted(list(texts), kind) == one_by_one


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-999999, max_value=999999)))
def test_a_decimal_comes_out_as_it_was_written(numbers: list[Decimal]) -> None:
    assert converted([str(number) for number in numbers], "DECIMAL(8,2)") == numbers
