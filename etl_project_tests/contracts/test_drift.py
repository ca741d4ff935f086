"""Promise 6: columns drift as the table's policy says; what loses or guesses anything is refused, all at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from etl_project.storage.contract import Sql, Table, WriteRefused
from etl_project.storage.judging import untyped
from etl_project_tests.contracts.conftest import DAY, NEXT, ORDERS, Bench, day, frame

FROZEN = replace(ORDERS, drift="freeze")


NO_HOME = "records have no home there, and are refused by name"


def days(*numbers: Any, kind: pa.DataType, on: Any = DAY) -> pa.Table:
    """One row a value, in column n of this type."""
    return pa.table({"batch_date": pa.array([on] * len(numbers), pa.date32()), "n": pa.array(numbers, kind)})


def refusal(bench: Bench, data: Any, table: Table = ORDERS) -> str:
    with pytest.raises(WriteRefused) as caught:
        bench.replace(data, day(DAY), table)
    return str(caught.value)


def test_a_new_column_is_added_and_old_rows_have_null_in_it(bench: Bench) -> None:
    bench.replace(frame((DAY, 1)), day(DAY))
    bench.replace(frame((NEXT, 2), city=["Rome"]), day(NEXT))
    assert bench.rows(day(DAY, NEXT)) == [(DAY, 1, None), (NEXT, 2, "Rome")]
    assert bench.rows(day(DAY)) == [(DAY, 1, None)]


def test_a_struct_that_comes_with_another_field_is_refused_with_the_ways_out(once: Bench) -> None:
    if not once.keeps_nested:
        pytest.skip(NO_HOME)

    def nested(**fields: int) -> pa.Table:
        return days(fields, kind=pa.struct([(name, pa.int64()) for name in fields]))

    once.replace(nested(a=1), day(DAY))
    told = refusal(once, nested(a=1, b=2))
    assert "a STRUCT gets no other fields" in told and "a column of their own" in told and "JSON text" in told
    assert "a STRUCT gets no other fields" in refusal(once, nested(x=1, y=2))
    assert once.rows(day(DAY)) == [(DAY, {"a": 1})]
    rows = nested(a=1)
    for _ in range(2):
        once.replace(rows.append_column("n_b", pa.array([2])), day(DAY))
    assert once.rows(day(DAY)) == [(DAY, {"a": 1}, 2)]


@pytest.mark.parametrize(
    ("there", "comes"),
    [([{"a": 1}], [{"x": 1}]), ({"s": {"a": 1}}, {"s": {"x": 1}}), ({"a": {"b": 1}}, {"a": [1]})],
    ids=["in a list", "in a struct", "a list for a struct"],
)
def test_nested_values_without_a_field_in_common_are_refused_at_any_depth(once: Bench, there: Any, comes: Any) -> None:
    if not once.keeps_nested:
        pytest.skip(NO_HOME)
    once.replace(days(there, kind=pa.array([there]).type), day(DAY))
    assert "a STRUCT gets no other fields" in refusal(once, days(comes, kind=pa.array([comes]).type))
    assert once.rows(day(DAY)) == [(DAY, there)]


@pytest.mark.parametrize(
    "value",
    [{"size": 3}, {"size": 3, "child": 1}, [{"size": 3}], {"key": {"size": {"size": 3}}}],
    ids=["alone", "beside another", "in a list", "in structs"],
)
def test_a_field_of_a_struct_may_be_called_like_a_part_of_duckdbs_own_types(once: Bench, value: Any) -> None:
    if not once.keeps_nested:
        pytest.skip(NO_HOME)
    rows = days(value, kind=pa.array([value]).type)
    for _ in range(2):
        once.replace(rows, day(DAY))
    assert once.rows(day(DAY)) == [(DAY, value)]


def test_a_missing_column_becomes_null(bench: Bench) -> None:
    bench.replace(frame((DAY, 1), city=["Rome"]), day(DAY))
    bench.replace(frame((NEXT, 2)), day(NEXT))
    assert bench.rows(day(DAY, NEXT)) == [(DAY, 1, "Rome"), (NEXT, 2, None)]


def test_a_frozen_table_takes_no_new_and_misses_no_old_column(bench: Bench) -> None:
    bench.replace(frame((DAY, 1), city=["Rome"]), day(DAY), FROZEN)
    message = refusal(bench, frame((DAY, 2), town=["Pisa"], street=["Via"]), FROZEN)
    assert "'town'" in message and "'street'" in message and "'city' is missing" in message
    assert bench.rows(day(DAY), FROZEN) == [(DAY, 1, "Rome")]


@pytest.mark.parametrize(
    ("narrow", "value", "wide", "big"),
    [
        (pa.int8(), 1, pa.int64(), 2**40),
        (pa.int32(), 1, pa.decimal128(38, 0), None),
        (pa.uint8(), 1, pa.int16(), 300),
        (pa.float32(), 0.5, pa.float64(), 0.1),
        (pa.decimal128(5, 2), 1, pa.decimal128(12, 3), 1000000),
    ],
    ids=["integers", "no value", "unsigned", "floats", "decimals"],
)
def test_a_column_is_widened_when_values_need_it(
    bench: Bench, narrow: pa.DataType, value: Any, wide: pa.DataType, big: Any
) -> None:
    bench.replace(days(value, kind=narrow), day(DAY))
    bench.replace(days(big, kind=wide, on=NEXT), day(NEXT))
    assert [row[1] for row in bench.rows(day(DAY, NEXT))] == [value, big]


def test_a_wider_type_whose_values_fit_changes_nothing(once: Bench) -> None:
    once.replace(days(1, kind=pa.int32()), day(DAY))
    before = once.arrow(day(DAY)).schema
    commits = once.replace(days(2, kind=pa.int64()), day(DAY))
    assert once.arrow(day(DAY)).schema == before and commits[0].schema_changes == ()


def test_a_frozen_column_is_not_widened(bench: Bench) -> None:
    bench.replace(days(1, kind=pa.int8()), day(DAY), FROZEN)
    told = refusal(bench, days(70_000, kind=pa.int64()), FROZEN)
    assert f"'n' is {'SMALLINT' if bench.backend == 'postgres' else 'TINYINT'}" in told, "its home in PostgreSQL"


@pytest.mark.parametrize(
    ("kept", "value", "sent", "lost"),
    [
        (pa.int32(), 1, pa.float64(), 1.5),
        (pa.int32(), 1, pa.float64(), float("nan")),
        (pa.int64(), 1, pa.float64(), 1e300),
        (pa.float64(), 0.5, pa.int64(), 2**53 + 1),
        (pa.decimal128(12, 3), 1, pa.float64(), 0.0005),
        (pa.date32(), DAY, pa.timestamp("us"), 1),
        (pa.timestamp("us"), 0, pa.timestamp("ns"), 1),
    ],
)
def test_a_value_that_would_change_is_refused(
    once: Bench, kept: pa.DataType, value: Any, sent: pa.DataType, lost: Any
) -> None:
    once.replace(days(value, kind=kept), day(DAY))
    before = once.rows(day(DAY))
    assert "cannot hold" in refusal(once, days(lost, kind=sent))
    assert once.rows(day(DAY)) == before


@pytest.mark.parametrize(
    ("kept", "value", "sent", "other"),
    [
        (pa.int32(), 1, pa.string(), "1"),
        (pa.string(), "1", pa.int32(), 1),
        (pa.timestamp("us", "UTC"), 0, pa.timestamp("us"), 0),
        (pa.timestamp("us"), 0, pa.timestamp("us", "UTC"), 0),
        (pa.bool_(), True, pa.int32(), 1),
        (pa.binary(), b"1", pa.string(), "1"),
        (pa.list_(pa.int32()), [1], pa.int32(), 1),
    ],
)
def test_a_column_never_changes_its_kind(
    once: Bench, kept: pa.DataType, value: Any, sent: pa.DataType, other: Any
) -> None:
    once.replace(days(value, kind=kept), day(DAY))
    before = once.rows(day(DAY))
    assert "column 'n' is" in refusal(once, days(other, kind=sent))
    assert once.rows(day(DAY)) == before


INSIDE = {
    "list": "[{}]",
    "record": "{{'a': {}, 'b': 1}}",
    "record in a list": "[{{'a': {}, 'b': 1}}]",
    "map": "MAP {{'k': {}}}",
}


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize(
    ("kept", "other"),
    [("1", "true"), ("'1'", "1"), ("1", "'1'"), ("'2024-01-01'", "DATE '2024-01-01'"), ("'1'::BLOB", "'1'")],
)
def test_a_value_inside_of_another_never_changes_its_kind_either(
    once: Bench, inside: str, kept: str, other: str
) -> None:
    """DuckDB itself makes text of numbers, and numbers of truths, where they are in a list or a record."""
    if inside != "list" and not once.keeps_nested:
        pytest.skip("records are refused by name")
    value, another = (Sql(f"SELECT DATE '{DAY}' AS batch_date, {INSIDE[inside].format(v)} AS n") for v in (kept, other))
    once.replace(value, day(DAY))
    before = once.rows(day(DAY))
    assert "column 'n' is" in refusal(once, another)
    assert once.rows(day(DAY)) == before


@pytest.mark.parametrize("form", ["query", "relation", "arrow"])
def test_a_field_without_a_value_goes_into_a_field_of_any_type(once: Bench, form: str) -> None:
    """DuckDB calls what is nothing an INTEGER; the field that is there has its type already."""
    if not once.keeps_nested:
        pytest.skip("records are refused by name")
    one, none = (
        "{'a': 1, 'b': 'x', 'l': ['y']} AS s, MAP {'k': 'x'} AS m",
        "{'a': 2, 'b': NULL, 'l': []} AS s, MAP {} AS m",
    )

    def made(values: str) -> Any:
        query = f"SELECT DATE '{DAY}' AS batch_date, {values}"
        return Sql(query) if form == "query" else duckdb.sql(query)

    once.replace(made(one), day(DAY))
    held: dict[str, Any] = {"a": 2, "b": None, "l": []}
    once.replace(pa.table({"batch_date": [DAY], "s": [held]}) if form == "arrow" else made(none), day(DAY))
    assert once.arrow(day(DAY)).column("s").to_pylist() == [held]


def test_whole_floats_go_into_an_integer_column(bench: Bench) -> None:
    bench.replace(days(1, None, kind=pa.int32()), day(DAY))
    bench.replace(days(2.0, None, kind=pa.float64()), day(DAY))
    assert bench.rows(day(DAY)) == [(DAY, 2), (DAY, None)]


def test_all_differences_are_listed_at_once(bench: Bench) -> None:
    bench.replace(frame((DAY, 1), a=["x"], b=[1]), day(DAY), FROZEN)
    message = refusal(bench, frame((DAY, 1), a=[1], c=["y"], d=["z"]), FROZEN)
    assert all(name in message for name in ("'a'", "'b'", "'c'", "'d'"))


def test_a_column_that_comes_twice_is_refused(bench: Bench) -> None:
    twice = pa.table([pa.array([DAY]), pa.array([1]), pa.array([2])], names=["batch_date", "n", "N"])
    assert "twice" in refusal(bench, twice)


def test_a_column_without_type_and_values_is_null_and_not_created(bench: Bench) -> None:
    bench.replace(frame((DAY, 1)), day(DAY))
    bench.replace(frame((DAY, 2), later=pa.nulls(1)), day(DAY))
    assert bench.arrow(day(DAY)).column_names == ["batch_date", "n"]
    bench.replace(frame((DAY, 2), later=["now"]), day(DAY))
    bench.replace(frame((DAY, 3), later=pa.nulls(1)), day(DAY))
    assert bench.rows(day(DAY)) == [(DAY, 3, None)]


NOTHING_YET = ("NULL AS t, [] AS l", "{'a': NULL} AS s")
FIRST_VALUES = ("'x' AS t, [DATE '2024-01-01'] AS l", "{'a': 'x'} AS s")


@pytest.mark.parametrize("form", ["query", "relation"])
def test_a_column_of_a_query_that_has_no_value_yet_has_no_type_yet(once: Bench, form: str) -> None:
    """DuckDB makes integers of them; the first value decides. What the query itself calls an integer is one."""

    def made(kinds: tuple[str, str]) -> Any:
        columns = ", ".join(kinds if once.keeps_nested else kinds[:1])
        query = f"SELECT DATE '{DAY}' AS batch_date, NULL::INTEGER AS n, {columns}"
        return Sql(query) if form == "query" else duckdb.sql(query)

    once.replace(made(NOTHING_YET), day(DAY))
    assert once.arrow(day(DAY)).column_names == ["batch_date", "n"]
    assert once.arrow(day(DAY)).schema.field("n").type == pa.int32()
    values = [("x", [date(2024, 1, 1)], {"a": "x"}), (None, [], {"a": None})]
    for kinds, expected in zip((FIRST_VALUES, NOTHING_YET), values, strict=True):
        once.replace(made(kinds), day(DAY))
        assert once.rows(day(DAY)) == [(DAY, None, *(expected if once.keeps_nested else expected[:2]))]


def test_a_partition_column_of_a_query_without_rows_has_the_type_of_its_partition(once: Bench) -> None:
    once.replace(Sql("SELECT NULL AS batch_date, NULL AS n WHERE false"), day(DAY))
    assert once.arrow(day(DAY)).schema == pa.schema([("batch_date", pa.date32())])


def test_what_a_query_is_made_of_is_looked_at_without_running_it_again() -> None:
    query = "SELECT nextval('numbers') AS n, NULL AS v"
    with duckdb.connect() as connection:
        connection.execute("CREATE SEQUENCE numbers")
        connection.execute(f"CREATE TABLE staged AS {query}")
        assert list(untyped.of_query(connection, "staged", query, {})) == ["v"]
        assert connection.execute("SELECT nextval('numbers')").fetchall() == [(2,)]
