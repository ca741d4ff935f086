"""What goes in and what comes out: anything that speaks Arrow, lazy SQL, every value and type as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from etl_project.storage.contract import InputChanged, Request, Sql, WriteRefused
from etl_project.storage.dagster.conversions import as_annotated
from etl_project_tests.contracts.conftest import DAY, NEXT, ORDERS, Bench, day, frame

ROWS = pa.table({"batch_date": pa.array([DAY, DAY], pa.date32()), "n": pa.array([1, 2], pa.int32())})


class Stream:
    """A stranger that can be read once, through the Arrow interface alone."""

    def __init__(self, table: pa.Table) -> None:
        self._reader = table.to_reader(max_chunksize=1)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._reader.__arrow_c_stream__(requested_schema)


FORMS: dict[str, Callable[[], Any]] = {
    "pandas": ROWS.to_pandas,
    "pandas with an index": lambda: ROWS.to_pandas().set_index(pd.Index([7, 7])),
    "pandas, Arrow-backed": lambda: ROWS.to_pandas(types_mapper=pd.ArrowDtype),
    "table": lambda: ROWS,
    "batch": lambda: ROWS.to_batches()[0],
    "reader": lambda: ROWS.to_reader(max_chunksize=1),
    "stream": lambda: Stream(ROWS),
    "relation": lambda: duckdb.connect().sql("SELECT DATE '2024-03-05' AS batch_date, unnest([1, 2])::INTEGER AS n"),
    "query": lambda: Sql("SELECT DATE '2024-03-05' AS batch_date, unnest([1, 2])::INTEGER AS n; "),
}


@pytest.mark.parametrize("form", FORMS)
def test_anything_that_speaks_arrow_goes_in(bench: Bench, form: str) -> None:
    bench.replace(FORMS[form], day(DAY))
    assert bench.rows(day(DAY)) == [(DAY, 1), (DAY, 2)]


@pytest.mark.parametrize("names", [["id"], [None, "id"], [7]])
def test_an_index_that_has_a_name_is_data_and_never_lost_without_a_word(bench: Bench, names: list[Any]) -> None:
    frame = ROWS.to_pandas()
    frame.index = pd.MultiIndex.from_arrays([[1, 2]] * len(names), names=names) if names[1:] else pd.Index([1, 2])
    frame.index.names = names
    with pytest.raises(WriteRefused, match=r"index with a name, ('id'|7), .*reset_index\(\)"):
        bench.replace(frame, day(DAY))
    bench.replace(frame.reset_index(drop=True), day(DAY))
    bench.replace(ROWS.to_pandas().set_index("n", drop=False), day(DAY))  # The column is there as well.
    assert bench.rows(day(DAY)) == [(DAY, 1), (DAY, 2)]


@pytest.mark.parametrize("index", [pd.RangeIndex(2), pd.Index([7, 3])])
def test_row_numbers_are_no_data(once: Bench, index: pd.Index[Any]) -> None:
    once.replace(ROWS.to_pandas().set_axis(index), day(DAY))
    assert once.rows(day(DAY)) == [(DAY, 1), (DAY, 2)]


def test_a_series_is_refused_with_the_way_to_make_a_frame_of_it(once: Bench) -> None:
    with pytest.raises(WriteRefused, match=r"Series is one column.*reset_index\(\)"):
        once.replace(pd.Series([1, 2], name="n").value_counts(), day(DAY))


def test_polars_goes_in_and_comes_out(bench: Bench) -> None:
    polars = pytest.importorskip("polars")
    bench.replace(polars.from_arrow(ROWS), day(DAY))
    store = bench.store()
    found = as_annotated(store, store.read(ORDERS, day(DAY)), polars.DataFrame)
    assert found.rows() == [(DAY, 1), (DAY, 2)]


HUGE = 2**53 + 1
COLUMNS = {
    "decimal": pa.array([Decimal("12345678901234567890.123456789"), None], pa.decimal128(38, 9)),
    "early": pa.array([date(1, 1, 1), date(9999, 12, 31)], pa.date32()),
    "binary": pa.array([b"\x00\xff", None], pa.binary()),
    "list": pa.array([[1, None], []], pa.list_(pa.int32())),
    "struct": pa.array([{"a": 1, "b": "x"}, None], pa.struct([("a", pa.int32()), ("b", pa.string())])),
    "zoned": pa.array([datetime(1600, 1, 1, 3, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
    "naive": pa.array([2**54 + 1, None], pa.timestamp("us")),
    "nanoseconds": pa.array([1, None], pa.timestamp("ns")),
    "float": pa.array([float("nan"), None], pa.float64()),
    "single": pa.array([0.1, None], pa.float32()),
    "integer": pa.array([HUGE, None], pa.int64()),
    "unsigned": pa.array([2**64 - 1, None], pa.uint64()),
    "flag": pa.array([True, None], pa.bool_()),
    "text": pa.array(["", "ünïcode 🙂 \n ' \" ;"], pa.string()),
    "time": pa.array([time(23, 59, 59, 1), None], pa.time64("us")),
}
TYPED = pa.table({"batch_date": pa.array([DAY, DAY], pa.date32()), **COLUMNS})


def typed(bench: Bench) -> pa.Table:
    """All of them; of PostgreSQL those that have a home of the same type there."""
    return TYPED if bench.keeps_nested else TYPED.drop_columns(["struct", "nanoseconds", "unsigned"])


def same(found: pa.Table, sent: pa.Table) -> bool:
    """Equal types and values, NaN equal to itself and not to NULL."""
    return found.schema.equals(sent.schema) and repr(found.to_pylist()) == repr(sent.to_pylist())


def test_values_and_types_survive_a_round_trip(bench: Bench) -> None:
    bench.replace(typed(bench), day(DAY))
    assert same(bench.arrow(day(DAY)), typed(bench))


def test_values_and_types_survive_arrow_backed_pandas(bench: Bench) -> None:
    bench.replace(typed(bench), day(DAY))
    store = bench.store()
    frame_out = as_annotated(store, store.read(ORDERS, day(DAY)), pd.DataFrame, "pyarrow")
    bench.replace(frame_out, day(DAY))
    assert same(bench.arrow(day(DAY)), typed(bench))


def test_python_dates_and_decimals_in_object_columns_go_in(bench: Bench) -> None:
    bench.replace(pd.DataFrame({"batch_date": [DAY, DAY], "price": [Decimal("1.50"), None]}), day(DAY))
    assert bench.rows(day(DAY)) == [(DAY, Decimal("1.50")), (DAY, None)]


def test_a_batch_reader_comes_out_and_lets_go_of_the_store(bench: Bench) -> None:
    bench.replace(ROWS, day(DAY))
    store = bench.store()
    reader = as_annotated(store, store.read(ORDERS, day(DAY)), pa.RecordBatchReader)
    assert isinstance(reader, pa.RecordBatchReader)
    other = replace(ORDERS, asset="copy", name="copy")
    store.replace(other, day(DAY), reader, Request("a run"))
    assert bench.rows(day(DAY), other) == [(DAY, 1), (DAY, 2)]


def test_a_query_runs_over_slices_of_exactly_the_partitions_asked_for(bench: Bench) -> None:
    bench.replace(frame((DAY, 1), (DAY, 2), (NEXT, 30)), day(DAY, NEXT))
    sums = replace(ORDERS, asset="sums", name="sums")

    def query() -> Sql:
        store = bench.store()
        one, two = store.read(ORDERS, day(DAY)), store.read(ORDERS, day(DAY), ["n"])
        text = "SELECT batch_date, sum(n)::BIGINT AS total, (SELECT count(*) FROM again) AS rows FROM orders GROUP BY 1"
        return Sql(text, orders=one, again=two)

    bench.replace(query, day(DAY), sums)
    assert bench.rows(day(DAY), sums) == [(DAY, 3, 2)]


def test_a_query_whose_input_changed_meanwhile_is_refused(bench: Bench) -> None:
    bench.replace(ROWS, day(DAY))
    store = bench.store()
    stale = Sql("SELECT * FROM orders", orders=store.read(ORDERS, day(DAY)))
    bench.replace(frame((DAY, 9)), day(DAY))
    copy = replace(ORDERS, asset="copy", name="copy")
    with pytest.raises(InputChanged):
        bench.replace(stale, day(DAY), copy)
    assert ("copy", "2024-03-05") not in bench.last()


def test_rows_that_changed_after_the_slice_was_made_are_not_handed_out(bench: Bench) -> None:
    bench.replace(ROWS, day(DAY))
    store = bench.store()
    piece = store.read(ORDERS, day(DAY))
    bench.replace(frame((DAY, 9)), day(DAY))
    with pytest.raises(InputChanged):
        store.arrow(piece)


def test_a_query_that_fails_is_refused_with_its_error(bench: Bench) -> None:
    bench.replace(ROWS, day(DAY))
    with pytest.raises(WriteRefused, match="nowhere"):
        bench.replace(Sql("SELECT * FROM nowhere"), day(DAY))
    assert bench.rows(day(DAY)) == [(DAY, 1), (DAY, 2)]


def test_a_query_may_start_with_its_own_with(bench: Bench) -> None:
    bench.replace(ROWS, day(DAY))
    copy = replace(ORDERS, asset="copy", name="copy")
    query = "WITH big AS (SELECT * FROM orders WHERE n > 1) SELECT * FROM big ORDER BY n LIMIT 5 -- the end"
    bench.replace(lambda: Sql(query, orders=bench.store().read(ORDERS, day(DAY))), day(DAY), copy)
    assert bench.rows(day(DAY), copy) == [(DAY, 2)]


def test_a_query_with_two_columns_of_one_name_is_refused(bench: Bench) -> None:
    """DuckDB would call the second one `n_1`; one that the query itself calls so is nobody's mistake."""
    bench.replace(Sql("SELECT DATE '2024-03-05' AS batch_date, 1 AS n, 2 AS n_1"), day(DAY))
    copy = replace(ORDERS, asset="copy", name="copy")

    def joined(condition: str) -> Callable[[], Sql]:
        slices = {name: [ORDERS, day(DAY), ["batch_date", "n"]] for name in ("a", "b")}
        return lambda: Sql(
            f"SELECT * FROM a JOIN b {condition} ORDER BY 1 -- ;",
            **{name: bench.store().read(*which) for name, which in slices.items()},
        )

    with pytest.raises(WriteRefused, match=r"one name.*'batch_date_1', 'n_1'"):
        bench.replace(joined("ON a.n = b.n"), day(DAY), copy)
    with pytest.raises(WriteRefused, match=r"one name.*'N_1'"):
        bench.replace(Sql("SELECT DATE '2024-03-05' AS batch_date, 1 AS n, 2 AS N"), day(DAY))
    assert bench.rows(day(DAY)) == [(DAY, 1, 2)]
    bench.replace(joined("USING (batch_date, n)"), day(DAY), copy)
    assert bench.rows(day(DAY), copy) == [(DAY, 1)]
