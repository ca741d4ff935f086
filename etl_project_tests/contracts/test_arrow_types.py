"""Every layout and type that a producer may send: in with its values, or refused by its name, on every backend."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from etl_project.storage.arrow_types import plain
from etl_project.storage.contract import Scope, WriteRefused
from etl_project_tests.contracts.conftest import DAY, NEXT, ORDERS, Bench, day, frame

TEXTS = ["eu", "us", "eu"]


def run_ends(values: pa.Array) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array(range(1, len(values) + 1), pa.int32()), values)


LAYOUTS: dict[str, Any] = {
    "string": pa.array,
    "large_string": lambda texts: pa.array(texts, pa.large_string()),
    "string_view": lambda texts: pa.array(texts, pa.string_view()),
    "dictionary": lambda texts: pa.array(texts).dictionary_encode(),
    "dictionary of views": lambda texts: pa.DictionaryArray.from_arrays(
        pa.array(range(len(texts)), pa.uint8()), pa.array(texts, pa.string_view())
    ),
    "run-end encoded": lambda texts: run_ends(pa.array(texts)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("streamed", [False, True], ids=["table", "stream"])
def test_any_layout_of_text_is_a_partition_column(once: Bench, layout: str, streamed: bool) -> None:
    """Into a partition that holds rows already, too: then its rows are compared with what comes in."""
    table, keys = replace(ORDERS, partition_column="region"), Scope.keys(["eu", "us"])
    for n in (1, 2):
        rows = pa.table({"region": LAYOUTS[layout](TEXTS), "n": [n, n, n]})
        once.replace((lambda rows=rows: rows.to_reader(max_chunksize=2)) if streamed else rows, keys, table)
    assert once.rows(keys, table) == [("eu", 2), ("eu", 2), ("us", 2)]
    once.replace(pa.table({"region": LAYOUTS[layout](["us"]), "n": [3]}), Scope.keys(["us"]), table)
    assert once.rows(keys, table) == [("eu", 2), ("eu", 2), ("us", 3)]


def view(values: list[Any], inner: pa.DataType, large: bool = False) -> pa.Array:
    return pa.array(values, pa.large_list_view(inner) if large else pa.list_view(inner))


VALUES: dict[str, Any] = {
    **{name: make(["a", "", "c"]) for name, make in LAYOUTS.items()},
    "string_view with NULL": pa.array(["a", None, "c"], pa.string_view()),
    "dictionary with NULL": pa.array(["a", None, "a"]).dictionary_encode(),
    "dictionary of numbers": pa.array([5, None, 5]).dictionary_encode(),
    "run-end encoded with NULL": run_ends(pa.array([1, None, 3])),
    "binary_view": pa.array([b"a", None, b""], pa.binary_view()),
    "large_binary": pa.array([b"a", None, b""], pa.large_binary()),
    "fixed binary": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "list_view": view([[1], None, [2, 3]], pa.int64()),
    "large_list_view": view([["a"], [], ["b", None]], pa.string_view(), large=True),
    "large_list": pa.array([[1], None, []], pa.large_list(pa.int64())),
    "list of views": pa.array([["a"], None, [None, "b"]], pa.list_(pa.string_view())),
    "list of list views": pa.array([[[1], [2]], None, []], pa.list_(pa.list_view(pa.int64()))),
    "fixed list of views": pa.array([["a", "b"], None, ["c", None]], pa.list_(pa.string_view(), 2)),
    "list of dictionaries": pa.ListArray.from_arrays([0, 2, 2, 3], pa.array(["a", "b", "a"]).dictionary_encode()),
    "list of run ends": pa.ListArray.from_arrays([0, 2, 2, 3], run_ends(pa.array(["a", "b", "a"]))),
    "struct of a view": pa.array([{"a": "x"}, None, {"a": None}], pa.struct([("a", pa.string_view())])),
    "struct of run ends": pa.StructArray.from_arrays([run_ends(pa.array(["a", "b", "c"]))], ["a"]),
    "float16": pa.array([1.5, None, 65504.0], pa.float16()),
    "decimal32": pa.array([Decimal("1.50"), None, Decimal("2.25")], pa.decimal32(5, 2)),
    "decimal64": pa.array([Decimal("1.50"), None, Decimal("2.25")], pa.decimal64(12, 2)),
    "decimal256 that fits": pa.array([Decimal("1.50"), None, Decimal(10**35)], pa.decimal256(60, 2)),
    "date64": pa.array([DAY, None, NEXT], pa.date64()),
}


NESTED = ("list of list views", "struct of a view", "struct of run ends")


def test_values_of_any_layout_come_out_as_they_went_in(once: Bench) -> None:
    """As a table and, over it, as a stream: the second write finds the first one's rows unchanged. One column each."""
    held = {name: values for name, values in VALUES.items() if once.keeps_nested or name not in NESTED}
    rows = pa.table({"batch_date": pa.array([DAY] * 3, pa.date32()), **held})
    (first,) = once.replace(rows, day(DAY))
    (second,) = once.replace(lambda: rows.to_reader(max_chunksize=1), day(DAY))
    assert (first.changed, second.changed) == (True, False)
    found = once.arrow(day(DAY)).to_pydict()
    for name, values in held.items():
        assert sorted(found[name], key=repr) == sorted(values.to_pylist(), key=repr), name


@pytest.mark.parametrize("name", VALUES)
def test_a_part_of_an_array_is_only_that_part(name: str) -> None:
    """Slices share their buffers with the rest."""
    rows = pa.table({"x": VALUES[name]})
    for part in (rows.slice(1), rows.slice(2, 1), rows.slice(1, 0)):
        assert plain(part)["x"].to_pylist() == part["x"].to_pylist()  # type: ignore[index]


def test_data_in_plain_layouts_is_not_copied() -> None:
    rows = pa.table({"x": [1], "y": ["a"], "z": pa.array([[1]], pa.large_list(pa.int64()))})
    assert plain(rows) is rows


HOMELESS: dict[str, tuple[Any, str]] = {
    "decimal256": (pa.array([Decimal(10**40)], pa.decimal256(60, 2)), "no lossless home"),
    "decimal256 of many places": (pa.array([Decimal("1")], pa.decimal256(60, 45)), "no DECIMAL holds 45 digits"),
    "union": (
        pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]),
        "several types",
    ),
    "nanoseconds of a zone": (pa.array([1], pa.timestamp("ns", "UTC")), "no lossless home"),
    "nanoseconds of a duration": (pa.array([1], pa.duration("ns")), "no lossless home"),
    "union inside": (
        pa.ListArray.from_arrays(
            [0, 1], pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])])
        ),
        "several types",
    ),
}


@pytest.mark.parametrize("name", HOMELESS)
def test_a_type_or_value_without_a_lossless_home_is_refused_by_the_name_of_its_column(once: Bench, name: str) -> None:
    once.replace(frame((DAY, 7)), day(DAY))
    values, reason = HOMELESS[name]
    rows = pa.table({"batch_date": pa.array([DAY], pa.date32()), "odd one": values})
    with pytest.raises(WriteRefused, match=f"'odd one'.*{reason}"):
        once.replace(rows, day(DAY))
    assert once.rows(day(DAY)) == [(DAY, 7)]


def test_objects_in_a_polars_frame_are_refused(once: Bench) -> None:
    polars = pytest.importorskip("polars")
    odd = polars.DataFrame({"batch_date": [DAY], "odd one": polars.Series([object()], dtype=polars.Object)})
    with pytest.raises(WriteRefused, match="'odd one'"):
        once.replace(odd, day(DAY))


def test_polars_writes_static_partitions_again_and_again(bench: Bench) -> None:
    polars = pytest.importorskip("polars")
    table = replace(ORDERS, partition_column="region")
    for n in (1, 2):
        bench.replace(polars.DataFrame({"region": ["eu"], "n": [n]}), Scope.keys(["eu"]), table)
    assert bench.rows(Scope.keys(["eu"]), table) == [("eu", 2)]


HOLLOW: dict[str, list[Any]] = {
    "None": [None],
    "empty list": [[]],
    "list of None": [[None]],
    "struct of None": [{"code": None}],
    "list of structs of None": [[{"code": None}]],
}


def test_a_column_without_any_value_has_no_type_yet(once: Bench) -> None:
    """Every kind of nothing, and after it every kind of something: one column each."""
    something = [["x"], {"code": "x"}, "x", 7] if once.keeps_nested else [["x"], "x", 7]
    pairs = [(hollow, later) for hollow in HOLLOW.values() for later in something]
    first = {f"x{n}": pa.array(hollow) for n, (hollow, _) in enumerate(pairs)}
    then = {f"x{n}": pa.array([later]) for n, (_, later) in enumerate(pairs)}
    for columns, key in ((first, DAY), (first, DAY), (then, NEXT), (then, NEXT)):
        once.replace(pa.table({"batch_date": pa.array([key], pa.date32()), **columns}), day(key))
    assert once.rows(day(NEXT)) == [(NEXT, *(later for _, later in pairs))]


def test_a_list_that_is_empty_stays_one_where_the_column_has_its_type(bench: Bench) -> None:
    bench.replace(pa.table({"batch_date": pa.array([DAY], pa.date32()), "x": pa.array([["a"]])}), day(DAY))
    bench.replace(pa.table({"batch_date": pa.array([NEXT], pa.date32()), "x": pa.array([[]])}), day(NEXT))
    assert bench.rows(day(DAY, NEXT)) == [(DAY, ["a"]), (NEXT, [])]


@pytest.mark.parametrize("empty", ["category", "object"])
def test_an_empty_pandas_column_has_no_type_yet(bench: Bench, empty: str) -> None:
    bench.replace(pd.DataFrame({"batch_date": [DAY], "x": pd.Series([None], dtype=empty)}), day(DAY))
    bench.replace(pd.DataFrame({"batch_date": [NEXT], "x": ["text"]}), day(NEXT))
    assert bench.rows(day(NEXT)) == [(NEXT, "text")]


def test_moments_in_nanoseconds_that_are_whole_microseconds_go_in(bench: Bench) -> None:
    moment, span = datetime.fromisoformat("2024-03-05T01:00"), timedelta(seconds=1)
    rows = pa.table(
        {
            "batch_date": pa.array([date(2024, 3, 5)], pa.date32()),
            "at": pa.array([moment], pa.timestamp("ns", "UTC")),
            "span": pa.array([span], pa.duration("ns")),
        }
    )
    bench.replace(rows.drop_columns(["span"]) if bench.backend in ("parquet", "bucket", "ducklake") else rows, day(DAY))
    assert bench.arrow(day(DAY), columns=["at"])["at"].cast(pa.timestamp("us")).to_pylist() == [moment]


OF_NO_STORE: dict[str, Any] = {
    "one key twice": pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int32())),
    "fields that differ in case": pa.array([{"a": 1, "A": 2}]),
    "a moment that no clock has": pa.array([2**62], pa.timestamp("s")),
}


@pytest.mark.parametrize("kind", OF_NO_STORE)
def test_what_duckdb_cannot_hold_is_refused_and_not_tried_again(once: Bench, kind: str) -> None:
    with pytest.raises(WriteRefused, match=r"[Rr]etrying does not\s+help"):
        once.replace(pa.table({"batch_date": [DAY], "v": OF_NO_STORE[kind]}), day(DAY))


def test_a_record_without_fields_has_no_value_yet(once: Bench) -> None:
    rows = pa.table({"batch_date": [DAY], "n": [1], "v": pa.array([{}], pa.struct([]))})
    once.replace(rows, day(DAY))
    assert once.arrow(day(DAY)).column_names == ["batch_date", "n"]


def test_a_decimal_of_whole_thousands_is_stored_as_its_number(once: Bench) -> None:
    once.replace(pa.table({"batch_date": [DAY], "n": pa.array([Decimal(15000)], pa.decimal128(5, -3))}), day(DAY))
    assert once.rows(day(DAY)) == [(DAY, 15000)]
