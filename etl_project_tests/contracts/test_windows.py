"""Partitions of any shape: hours, local days over a clock change, weeks, static keys, the whole table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from etl_project.storage.contract import Scope, WriteRefused
from etl_project.storage.dagster.scopes import UnsupportedAsset, scope_of, table_of
from etl_project_tests.contracts.conftest import ORDERS, Bench, in_order

KEY = dg.AssetKey("orders")
EVENTS = replace(ORDERS, partition_column="at")


def instants(*moments: datetime, n: int = 0, kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"at": pa.array(moments, kind or pa.timestamp("us", "UTC")), "n": [n] * len(moments)})


def every_half_hour(start: datetime, end: datetime) -> list[datetime]:
    return [start + n * timedelta(minutes=30) for n in range(int((end - start) / timedelta(minutes=30)))]


def test_an_hour_replaces_exactly_its_rows(bench: Bench) -> None:
    hourly = dg.HourlyPartitionsDefinition("2024-03-05-00:00")
    hours = scope_of(KEY, hourly, ["2024-03-05-07:00", "2024-03-05-08:00"])
    moments = every_half_hour(datetime(2024, 3, 5, 7, tzinfo=UTC), datetime(2024, 3, 5, 9, tzinfo=UTC))
    bench.replace(instants(*moments), hours, EVENTS)
    eight = Scope(hours.partitions[1:])
    bench.replace(instants(moments[3], n=1), eight, EVENTS)
    assert bench.rows(hours, EVENTS) == [(moments[0], 0), (moments[1], 0), (moments[3], 1)]


@pytest.mark.parametrize("kind", [pa.timestamp("us", "UTC"), pa.timestamp("us")], ids=["zoned", "naive is UTC"])
@pytest.mark.parametrize("changed", ["2024-03-31", "2024-10-27"], ids=["23 hours", "25 hours"])
def test_a_local_day_is_its_own_length_over_a_clock_change(bench: Bench, changed: str, kind: pa.DataType) -> None:
    local = dg.DailyPartitionsDefinition("2024-01-01", timezone="Europe/Berlin")
    changes = date.fromisoformat(changed)
    keys = [(changes + timedelta(days=n)).isoformat() for n in (-1, 0, 1)]
    scope = scope_of(KEY, local, keys)
    lower, upper = scope.partitions[1].lower, scope.partitions[1].upper
    assert isinstance(lower, datetime) and isinstance(upper, datetime)
    window = every_half_hour(lower.astimezone(UTC), upper.astimezone(UTC))
    assert len(window) == (46 if changed == "2024-03-31" else 50)
    around = [window[0] - timedelta(minutes=30), *window, window[-1] + timedelta(minutes=30)]
    stored = around if kind.tz else [moment.replace(tzinfo=None) for moment in around]
    bench.replace(instants(*stored, kind=kind), scope, EVENTS)
    bench.replace(instants(kind=kind), Scope(scope.partitions[1:2]), EVENTS)
    assert [row[0] for row in bench.rows(scope, EVENTS)] == [stored[0], stored[-1]]


def test_a_local_day_of_a_date_column_is_its_calendar_day(bench: Bench) -> None:
    local = dg.DailyPartitionsDefinition("2024-01-01", timezone="Asia/Shanghai")
    scope = scope_of(KEY, local, ["2024-03-05"])
    data = pa.table({"batch_date": pa.array([date(2024, 3, 5)], pa.date32())})
    bench.replace(data, scope)
    assert bench.rows(scope) == [(date(2024, 3, 5),)]


def test_a_week_owns_its_seven_days(bench: Bench) -> None:
    weekly = dg.WeeklyPartitionsDefinition("2024-03-03")
    weeks = scope_of(KEY, weekly, ["2024-03-03", "2024-03-10"])
    days = [date(2024, 3, 3) + timedelta(days=n) for n in range(14)]
    bench.replace(pa.table({"batch_date": pa.array(days, pa.date32())}), weeks)
    bench.replace(pa.table({"batch_date": pa.array([], pa.date32())}), Scope(weeks.partitions[:1]))
    assert bench.rows(weeks) == [(day,) for day in days[7:]]


def test_hours_of_a_date_column_are_refused(once: Bench) -> None:
    hourly = dg.HourlyPartitionsDefinition("2024-03-05-00:00")
    scope = scope_of(KEY, hourly, ["2024-03-05-07:00"])
    with pytest.raises(WriteRefused, match="within a day"):
        once.replace(pa.table({"batch_date": pa.array([date(2024, 3, 5)], pa.date32())}), scope)


def test_the_day_of_a_text_column_is_its_key(bench: Bench) -> None:
    scope = Scope.days(date(2024, 3, 5), date(2024, 3, 6))
    bench.replace(pa.table({"batch_date": ["2024-03-05", "2024-03-06"], "n": [1, 2]}), scope)
    bench.replace(pa.table({"batch_date": ["2024-03-06"], "n": [3]}), Scope(scope.partitions[1:]))
    assert bench.rows(scope) == [("2024-03-05", 1), ("2024-03-06", 3)]
    with pytest.raises(WriteRefused, match="5 March"):
        bench.replace(pa.table({"batch_date": ["5 March"], "n": [3]}), scope)


def regions(*rows: tuple[str, int]) -> pa.Table:
    return pa.table({"batch_date": [row[0] for row in rows], "n": [row[1] for row in rows]})


@pytest.mark.parametrize("names", [("eu", "us"), ("€ 🙂", "x' OR 1=1 --")])
def test_a_static_key_owns_its_value(bench: Bench, names: Sequence[str]) -> None:
    one, two = names
    both = scope_of(KEY, dg.StaticPartitionsDefinition([one, two]), [one, two])
    bench.replace(regions((one, 1), (two, 2)), both)
    bench.replace(regions((one, 3)), Scope.keys([one]))
    assert bench.rows(both) == in_order([(one, 3), (two, 2)])
    with pytest.raises(WriteRefused, match="rows lie outside"):
        bench.replace(regions((one, 4), (two, 5)), Scope.keys([one]))
    assert bench.rows(Scope.keys([one])) == [(one, 3)]


def test_an_unpartitioned_asset_is_replaced_as_a_whole(bench: Bench) -> None:
    whole = scope_of(KEY, None, [])
    bench.replace(pa.table({"n": [1, 2]}), whole)
    bench.replace(pa.table({"n": [3]}), whole)
    assert bench.rows(whole) == [(3,)]
    assert bench.history(None)[-1].partition is None
    bench.replace(pa.table({"n": pa.array([], pa.int64())}), whole)
    assert bench.rows(whole) == []


DAYS = dg.DailyPartitionsDefinition("2024-01-01")
REGIONS = dg.StaticPartitionsDefinition(["eu", "us"])
BY_REGION = dg.MultiPartitionsDefinition({"date": DAYS, "region": REGIONS})


def cells(*rows: tuple[Any, str | None, int], kind: pa.DataType) -> pa.Table:
    days = pa.array([row[0] for row in rows], kind)
    regions = pa.array([row[1] for row in rows], pa.string())
    return pa.table({"batch_date": days, "region": regions, "n": pa.array([row[2] for row in rows], pa.int64())})


@pytest.mark.parametrize("kind", [pa.date32(), pa.string(), pa.timestamp("us", "UTC")], ids=str)
def test_a_cell_of_several_dimensions_owns_the_rows_that_have_them_all(bench: Bench, kind: pa.DataType) -> None:
    table = table_of(dg.AssetKey("orders"), {}, None, BY_REGION)
    day: Any = {pa.date32(): date(2024, 3, 5), pa.string(): "2024-03-05"}.get(
        kind, datetime(2024, 3, 5, 23, tzinfo=UTC)
    )
    both = scope_of(KEY, BY_REGION, ["2024-03-05|us", "2024-03-05|eu"])
    eu, us = (Scope((partition,)) for partition in both.partitions)
    bench.replace(cells((day, "eu", 1), (day, "us", 2), kind=kind), both, table)
    bench.replace(cells((day, "eu", 3), kind=kind), eu, table)
    assert [row[1:] for row in bench.rows(both, table)] == [("eu", 3), ("us", 2)]
    assert [row[1:] for row in bench.rows(us, table)] == [("us", 2)]
    bench.replace(cells(kind=kind), us, table)
    assert [row[1:] for row in bench.rows(both, table)] == [("eu", 3)]
    for stray in ((day, "us", 9), (None, "eu", 9), (day, None, 9)):
        with pytest.raises(WriteRefused, match=r"rows (lie outside|have NULL)"):
            bench.replace(cells(stray, kind=kind), eu, table)
    with pytest.raises(WriteRefused, match="partition column 'region' is missing"):
        bench.replace(cells((day, "eu", 9), kind=kind).drop_columns(["region"]), eu, table)
    assert [row[1:] for row in bench.rows(both, table)] == [("eu", 3)]


def test_the_columns_of_dimensions_can_be_named() -> None:
    named = {"partition_columns": {"date": "day", "region": "country"}}
    assert table_of(KEY, named, None, BY_REGION).partition_columns == ("day", "country")
    assert table_of(KEY, {"partition_column": "day"}, None, BY_REGION).partition_columns == ("day", "region")


@pytest.mark.parametrize(
    ("dimensions", "metadata", "complaint"),
    [
        ({"hour": dg.HourlyPartitionsDefinition("2024-01-01-00:00"), "region": REGIONS}, {}, "other than a UTC day"),
        ({"date": DAYS, "region": REGIONS}, {"partition_columns": {"zone": "x"}}, "'zone', which is no dimension"),
        ({"date": DAYS, "region": REGIONS}, {"partition_columns": {"region": "Batch_Date"}}, "have one column"),
        ({"date": DAYS, "region": REGIONS}, {"partition_columns": "day"}, "not a column for each dimension"),
    ],
)
def test_dimensions_that_cannot_be_stored_are_refused_with_their_reason(
    dimensions: dict[str, Any], metadata: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UnsupportedAsset, match=complaint):
        table_of(KEY, metadata, None, dg.MultiPartitionsDefinition(dimensions))


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"drift": "maybe"}, "drift is 'maybe'"),
        ({"max_removed_ratio": 7}, "max_removed_ratio is 7"),
        ({"table": 3, "contract_sql": 4}, "table is 3.*contract_sql is 4"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(metadata: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UnsupportedAsset, match=complaint):
        table_of(KEY, metadata, None)
