"""Previews: a few rows of each partition, from every backend, for every kind of partition."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from etl_project.storage.contract import Partition, Scope, Table
from etl_project.storage.dagster import preview
from etl_project_tests.contracts.conftest import DAY, NEXT, ORDERS, Bench, day, frame

AFTER = NEXT + timedelta(days=1)


def shown(bench: Bench, scope: Scope, table: Table = ORDERS, count: int = 2) -> dict[str | None, list[str]]:
    """The rows of each preview, without its head."""
    found = preview.previews(bench.store(), table, scope, count)
    return {key: text.splitlines()[2:] for key, text in found.items()}


def test_each_day_of_a_range_shows_its_own_rows_and_no_more_than_asked_for(bench: Bench) -> None:
    bench.replace(frame((DAY, 1), (DAY, 2), (DAY, 3), (AFTER, 7)), day(DAY, AFTER))
    found = shown(bench, day(DAY, AFTER))
    assert {*found} == {str(DAY), str(AFTER)}
    assert len(found[str(DAY)]) == 2
    assert {*found[str(DAY)]} < {f"| {n} |" for n in (1, 2, 3)}
    assert found[str(AFTER)] == ["| 7 |"]


def test_one_day_shows_only_its_own_rows(bench: Bench) -> None:
    bench.replace(frame((DAY, 1), (NEXT, 2)), day(DAY, NEXT))
    assert shown(bench, day(NEXT)) == {str(NEXT): ["| 2 |"]}


def test_days_without_rows_have_no_preview(bench: Bench) -> None:
    bench.replace(frame(), day(DAY, NEXT))
    assert shown(bench, day(DAY, NEXT)) == {}


def test_static_keys_and_whole_tables_have_previews(bench: Bench) -> None:
    table = Table("shops", "shops", partition_column="shop")
    rows = pa.table({"shop": ["it's", "it's", "a|b"], "n": pa.array([1, 1, 2], pa.int32())})
    bench.replace(rows, Scope.keys(["it's", "a|b"]), table)
    assert shown(bench, Scope.keys(["it's", "a|b"]), table) == {"it's": ["| 1 |"] * 2, "a|b": ["| 2 |"]}
    whole = Table("all", "all", partition_column=None)
    bench.replace(pa.table({"n": pa.array([5], pa.int32())}), Scope.whole(), whole)
    assert shown(bench, Scope.whole(), whole) == {None: ["| 5 |"]}


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_hours_have_previews_whatever_kind_of_instant_their_column_holds(bench: Bench, zone: str | None) -> None:
    start = datetime(2024, 3, 5, 22, tzinfo=UTC)
    hours = [start + timedelta(hours=n) for n in range(4)]
    scope = Scope(tuple(Partition(f"{hour:%Y-%m-%d-%H}", hour, hour + timedelta(hours=1)) for hour in hours[:3]))
    table = Table("calls", "calls", partition_column="at")
    instants = pa.array([hours[0], hours[2] + timedelta(minutes=59)], pa.timestamp("us", "UTC"))
    kind: Any = pa.timestamp("us", zone)
    bench.replace(pa.table({"at": instants.cast(kind), "n": pa.array([1, 2], pa.int32())}), scope, table)
    found = shown(bench, scope, table)
    assert {key: [row.split(" | ")[-1] for row in rows] for key, rows in found.items()} == {
        "2024-03-05-22": ["1 |"],
        "2024-03-06-00": ["2 |"],
    }


def test_values_are_cut_and_mean_nothing_to_markdown(once: Bench) -> None:
    text = ["a|b\n*c* <b>d</b> `e` [f] __h__ i_j &", "x" * 50, None]
    rows = frame((DAY, 1), (DAY, 2), (DAY, 3), text=pa.array(text))
    once.replace(rows, day(DAY))
    cells = sorted(row.split(" | ", 1)[1].removesuffix(" |") for row in shown(once, day(DAY), count=5)[str(DAY)])
    assert cells == ["NULL", r"a\|b \*c\* \<b\>d\</b\> \`e\` \[f\] \_\_h\_\_ i_j \&", "x" * 40 + "…"]


def test_many_columns_are_cut_and_counted(once: Bench) -> None:
    more = {f"c{n}": pa.array([n], pa.int32()) for n in range(30)}
    once.replace(frame((DAY, 1), **more), day(DAY))
    *_, head, _, row, _, last = ["", *preview.previews(once.store(), ORDERS, day(DAY), 5)[str(DAY)].splitlines()]
    assert (head.count("|"), row.count("|"), last) == (26, 26, "and 6 more columns")


def test_a_column_named_position_is_shown_like_any_other(once: Bench) -> None:
    once.replace(frame((DAY, 1), (NEXT, 2), position=pa.array([7, 8])), day(DAY, NEXT))
    assert shown(once, day(DAY, NEXT)) == {str(DAY): ["| 1 | 7 |"], str(NEXT): ["| 2 | 8 |"]}
