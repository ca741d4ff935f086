"""What comes back is what went in: every dtype of pandas and polars, its values and their Python types."""

import datetime as dt
import pickle
import subprocess
import sys
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_project.storage import (
    DuckDBPartitionIOManager,
    DuckLakePartitionIOManager,
    ParquetPartitionIOManager,
    PostgresPartitionIOManager,
    recorded,
)
from etl_project.storage.contract import ReadRefused, WriteRefused
from etl_project.storage.dagster.io_manager import PartitionIOManager
from etl_project_tests import postgres

Make = Callable[..., PartitionIOManager]


@pytest.fixture(params=["duckdb", "parquet"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "duckdb":
        return lambda **more: DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"), **more)
    return lambda **more: ParquetPartitionIOManager(root=str(tmp_path / "lake"), **more)


@pytest.fixture(params=["duckdb", "parquet", *(("ducklake", "postgres") if postgres.SERVER else ())])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> PartitionIOManager:
    """On servers, too."""
    if request.param == "ducklake":
        return DuckLakePartitionIOManager(url=postgres.url_of(tmp_path), data=str(tmp_path / "lake"))
    if request.param == "postgres":
        return PostgresPartitionIOManager(url=postgres.plain_url_of(tmp_path))
    if request.param == "duckdb":
        return DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))
    return ParquetPartitionIOManager(root=str(tmp_path / "lake"))


def held(manager: PartitionIOManager, columns: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """One column each, but for records where they have no home and are refused by name."""
    homeless = RECORDS if isinstance(manager, PostgresPartitionIOManager) else ()
    return {name: column() for name, column in columns.items() if name not in homeless}


def there_and_back(manager: PartitionIOManager, frame: Any, kind: type = pd.DataFrame, times: int = 2) -> Any:
    for _ in range(times):
        out = dg.build_output_context(asset_key="frame")
        manager.handle_output(out, frame)
    into = dg.build_input_context(asset_key="frame", upstream_output=out, dagster_type=dg.PythonObjectDagsterType(kind))
    return manager.load_input(into)


def objects(*values: Any) -> pd.Series:  # type: ignore[type-arg]
    return pd.Series(values, dtype=object)


MOMENTS = ["2024-01-01 10:00", "2024-10-27 02:30", None]
PANDAS: dict[str, Callable[[], Any]] = {
    **{
        f"numpy {name}": lambda name=name: np.array([1, 2, 3], dtype=name)
        for name in (*(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "float32", "float64")
    },
    "bool": lambda: [True, False, True],
    "str": lambda: ["a", None, "c"],
    "object text": lambda: objects("a", None, "c"),
    "string": lambda: pd.array(["a", None, "c"], dtype="string"),
    "nullable int": lambda: pd.array([2**53 + 1, None, 3], dtype="Int64"),
    "nullable bool": lambda: pd.array([True, None, False], dtype="boolean"),
    "nullable float": lambda: pd.array([1.5, None, 2], dtype="Float64"),
    "arrow int": lambda: pd.array([1, 2, None], dtype="int64[pyarrow]"),
    **{
        f"moments {unit}": lambda unit=unit: pd.to_datetime(MOMENTS).astype(f"datetime64[{unit}]")
        for unit in ("s", "ms", "us", "ns")
    },
    "moments of a zone": lambda: pd.to_datetime(MOMENTS).tz_localize("Asia/Shanghai"),
    "time spans": lambda: pd.to_timedelta(["1D", "-2h", None]),
    "time spans s": lambda: pd.to_timedelta(["1D", "-2h", None]).astype("timedelta64[s]"),
    "time spans ns": lambda: pd.to_timedelta(["1D", "-2h", None]).astype("timedelta64[ns]"),
    "ordered category": lambda: pd.Categorical(["a", "b", None], categories=["b", "a", "z"], ordered=True),
    "category of numbers": lambda: pd.Categorical([5, 7, 5]),
    "months": lambda: pd.period_range("2024-01", periods=3, freq="M"),
    "weeks": lambda: pd.period_range("2024-01", periods=3, freq="W-SUN"),
    "quarters with a gap": lambda: pd.Series(["2024Q1", None, "2024Q3"]).astype("period[Q-DEC]"),
    "interval": lambda: pd.interval_range(0, 3, closed="left"),
    "interval of moments": lambda: pd.interval_range(pd.Timestamp("2024-01-01"), periods=3, freq="D"),
    "bytes": lambda: objects(b"a", None, b""),
    "decimal": lambda: objects(Decimal("1.50"), None, Decimal("2.25")),
    "date": lambda: objects(dt.date(2024, 1, 1), None, dt.date(1000, 1, 1)),
    "time": lambda: objects(dt.time(1), None, dt.time(2, 3, 4, 5)),
    "uuid": lambda: objects(uuid.UUID(int=1), None, uuid.UUID(int=2**100)),
    "list": lambda: objects([1], [], None),
    "list of text": lambda: objects(["a", None], [], None),
    "dict": lambda: objects({"a": 1}, {"a": 2}, None),
    "nothing": lambda: objects(None, None, None),
    "whole numbers as objects": lambda: objects(2**53 + 1, None, 3),
    "fractions as objects": lambda: objects(1.5, None, 2.0),
    "arrow list": lambda: pd.array([[1], None, []], dtype=pd.ArrowDtype(pa.list_(pa.int32()))),
    "arrow moments of a zone": lambda: pd.array(
        [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None, None], dtype=pd.ArrowDtype(pa.timestamp("us", "UTC"))
    ),
    "moments of an offset": lambda: pd.to_datetime(MOMENTS).tz_localize(dt.timezone(dt.timedelta(hours=5, minutes=30))),
    "halves": lambda: np.array([1.5, 2, 65504], dtype="float16"),
}


RECORDS = ("interval", "interval of moments", "dict", "struct")


def test_every_pandas_dtype_comes_back_with_its_values(anywhere: PartitionIOManager) -> None:
    frame = pd.DataFrame({"key": [1, 2, 3]} | held(anywhere, PANDAS))
    found = there_and_back(anywhere, frame).sort_values("key", ignore_index=True)
    pd.testing.assert_frame_equal(found, frame)
    types = {name: [type(value) for value in frame[name]] for name in frame.columns}
    assert {name: [type(value) for value in found[name]] for name in frame.columns} == types


def test_a_category_of_intervals_comes_back_as_intervals(make: Make) -> None:
    """Arrow writes such a dictionary and does not read it again: the frame could not be loaded any more."""
    values = pd.cut(pd.Series([1, 5, 9]), [0, 4, 10])
    found = there_and_back(make(), pd.DataFrame({"key": [1, 2, 3], "v": values})).sort_values("key")
    assert str(found["v"].dtype) == "interval[int64, right]" and found["v"].tolist() == values.tolist()


def test_integers_inside_of_lists_keep_their_digits_beside_missing_ones(make: Make) -> None:
    """Whoever wrote them: numpy makes fractions of them."""
    huge = 2**53 + 1
    rows = pa.table({"l": [[huge, None]], "s": [[{"n": huge}, {"n": None}]], "n": [1]})
    found = there_and_back(make(), rows)
    assert found.to_dict("records") == [{"l": [huge, None], "s": [{"n": huge}, {"n": None}], "n": 1}]


def test_integers_inside_of_records_of_pandas_keep_their_digits(make: Make) -> None:
    huge = 2**53 + 1
    written = pd.DataFrame({"r": objects({"a": huge}, {"a": None}), "l": objects({"n": [huge, None]}, None)})
    assert there_and_back(make(), written).to_dict("records") == written.to_dict("records")
    rows = pa.table({"m": pa.array([[("k", huge), ("none", None)]], pa.map_(pa.string(), pa.int64()))})
    there_and_back(make(), rows)
    for dtypes in ("numpy", "numpy_nullable"):
        assert there_and_back(make(pandas_dtypes=dtypes), rows)["m"].tolist() == [[("k", huge), ("none", None)]]


def test_spans_inside_of_others_are_spans_again(tmp_path: Path) -> None:
    """pandas made offsets of the calendar of them, and polars ended over them."""
    manager, span = DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb")), dt.timedelta(days=400, seconds=5)
    values = {"l": objects([span, None], [], None), "r": objects({"a": span}, {"a": None}, None)}
    found = there_and_back(manager, pd.DataFrame(values))
    assert [found[name].tolist() for name in values] == [list(values["l"]), list(values["r"])]
    frame = pl.DataFrame({"r": [{"a": span}, {"a": None}, None], "l": [[span], [], None]})
    assert there_and_back(manager, frame, pl.DataFrame).select(frame.columns).equals(frame)
    with pytest.raises(ReadRefused, match="polars has no type for intervals, which 'v' has"):
        there_and_back(manager, pa.table({"v": [pa.MonthDayNano([1, 0, 0])]}), pl.DataFrame)


def test_a_category_of_spans_is_one_again(make: Make) -> None:
    frame = pd.DataFrame({"v": pd.Categorical(pd.to_timedelta(["1D", "2D", "1D"]))})
    pd.testing.assert_series_equal(
        there_and_back(make(), frame)["v"].sort_values(ignore_index=True).astype("timedelta64[us]"),
        frame["v"].sort_values(ignore_index=True).astype("timedelta64[us]"),
    )


LONG = dt.timedelta(days=300_000)


def test_spans_that_would_come_back_as_others_are_refused_where_there_are_intervals(tmp_path: Path) -> None:
    """DuckDB hands them out in nanoseconds: of 821 years, 584 would be gone."""
    manager = DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))
    for rows in ([{"v": LONG}], [{"v": [LONG]}], pa.table({"v": [pa.MonthDayNano([0, 0, 1])]})):
        with pytest.raises(WriteRefused, match=r"'v' is of type .* spans of more than 292 years or in nanoseconds"):
            there_and_back(manager, rows)
    files = ParquetPartitionIOManager(root=str(tmp_path / "lake"))
    assert there_and_back(files, pd.DataFrame({"v": objects(LONG)}))["v"].tolist() == [LONG]


class Speaking:
    """Rows of a library that nobody here knows."""

    def __init__(self, rows: pa.Table) -> None:
        self.rows = rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.rows.__arrow_c_stream__(requested_schema)


def test_text_that_is_none_is_refused_before_anything_is_written(make: Make) -> None:
    """A file with it would be written, and never read again."""
    offsets = pa.py_buffer(b"\0\0\0\0\1\0\0\0")
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xff")])
    nested = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), text)
    plain = pa.table({"v": text})
    for rows in (plain, pa.table({"v": nested}), plain.to_reader(), Speaking(plain), {"None": plain}):
        with pytest.raises(Exception, match=r"'v' is of type .* has values that are none"):
            there_and_back(make(), rows, times=1)


def test_a_number_that_is_too_large_is_refused(make: Make) -> None:
    with pytest.raises(WriteRefused, match="too large"):
        there_and_back(make(), pd.DataFrame({"n": objects(2**70, 1)}))
    with pytest.raises(WriteRefused, match="too large"):
        there_and_back(make(), [{"n": 2**70}])


def test_a_polars_integer_that_arrow_does_not_have_is_refused_by_name(make: Make) -> None:
    wide = pl.Series([1], dtype=pl.Int128)
    with pytest.raises(WriteRefused, match="no integers of 128 bits: 'v'"):
        there_and_back(make(), pl.DataFrame({"v": wide, "n": [1]}))
    there_and_back(make(), pl.DataFrame({"v": wide.cast(pl.Decimal(38, 0))}))


def test_the_columns_of_a_frame_keep_their_order(make: Make) -> None:
    frame = pd.DataFrame({"none": objects(None), "b": [1], "a": ["x"]})
    assert list(there_and_back(make(), frame).columns) == ["none", "b", "a"]


def test_a_polars_frame_has_its_own_order_of_columns_and_those_without_values(make: Make) -> None:
    there_and_back(make(), pl.DataFrame({"b": [1], "a": ["x"]}))
    frame = pl.DataFrame({"a": ["y"], "none": [None], "b": [2]})
    found = there_and_back(make(), frame, pl.DataFrame)
    assert (found.to_dicts(), found.columns) == (frame.to_dicts(), ["a", "none", "b"])
    assert found.schema == frame.schema


@pytest.mark.parametrize("library", [pd, pl])
@pytest.mark.parametrize("asked", [["b"], ["b", "a"]])
def test_of_a_frame_come_the_columns_that_were_asked_for_in_that_order(
    make: Make, library: Any, asked: list[str]
) -> None:
    there_and_back(make(), library.DataFrame({"a": ["y"], "none": [None], "b": [2]}))
    kind = dg.PythonObjectDagsterType(library.DataFrame)
    into = dg.build_input_context(asset_key="frame", definition_metadata={"columns": asked}, dagster_type=kind)
    assert list(make().load_input(into).columns) == asked


def test_a_frame_that_is_nothing_but_an_index_is_no_empty_partition(make: Make) -> None:
    with pytest.raises(WriteRefused, match="index with a name, 'n'"):
        there_and_back(make(), pd.DataFrame({"n": [1]}).set_index("n"))


def test_an_index_that_is_no_row_number_is_refused_and_one_that_may_be_is_said_to_be_left_out(
    make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = pd.DataFrame({"n": [1, 2]}, index=["x", "y"])
    with pytest.raises(WriteRefused, match="an index that is no row number, like 'x', 'y'"):
        there_and_back(make(), rows)
    there_and_back(make(), rows.set_axis([0, 1]).reset_index(drop=True))
    assert "row numbers" not in capfd.readouterr().err
    there_and_back(make(), rows.set_axis([8, 9]))
    assert "was taken for row numbers and is not stored" in capfd.readouterr().err


def test_an_empty_frame_keeps_its_columns(make: Make) -> None:
    frame = pd.DataFrame({"n": pd.Series([], dtype="int64"), "x": pd.Series([], dtype="category")})
    found = there_and_back(make(), frame)
    assert len(found) == 0 and list(found.columns) == ["n", "x"] and str(found["n"].dtype) == "int64"


def test_an_integer_that_is_missing_now_stays_an_integer(make: Make) -> None:
    """Where it was written without missing ones: numpy would make 2^53 + 1 another number of it."""
    huge = 2**53 + 1
    there_and_back(make(), pd.DataFrame({"n": [huge]}))
    found = there_and_back(make(), pa.table({"n": [huge, None]}))
    assert str(found["n"].dtype) == "Int64" and found["n"].tolist()[0] == huge


@pytest.mark.parametrize(
    ("dtypes", "number", "text"), [("numpy", "Int64", "str"), ("pyarrow", "int64[pyarrow]", "string[pyarrow]")]
)
def test_the_dtypes_are_what_the_io_manager_says(
    make: Make, dtypes: Literal["numpy", "pyarrow"], number: str, text: str
) -> None:
    frame = pd.DataFrame({"n": pd.array([1, None], dtype="Int64"), "x": pd.Categorical(["a", "b"])})
    found = there_and_back(make(pandas_dtypes=dtypes), frame)
    assert [str(dtype) for dtype in found.dtypes] == [number, text]


@pytest.mark.parametrize("backend", ["pyarrow", "numpy_nullable"])
@pytest.mark.parametrize("how", ["setting", "input"])
def test_a_dtype_backend_gives_what_pandas_own_reader_gives_by_that_name(
    make: Make, backend: Literal["pyarrow", "numpy_nullable"], how: str, tmp_path: Path
) -> None:
    numbers = pa.table(
        {
            "n": pa.array([1, None], pa.int64()),
            "small": pa.array([1, 2], pa.int8()),
            "x": [1.5, None],
            "b": [True, None],
            "s": ["a", None],
            "at": pa.array([dt.datetime.fromisoformat("2024-01-01"), None], pa.timestamp("us")),
            "day": pa.array([dt.date(2024, 1, 1), None]),
        }
    )
    pq.write_table(numbers, tmp_path / "by-pandas.parquet")
    manager = make(dtype_backend=backend) if how == "setting" else make(pandas_dtypes="numpy")
    out = dg.build_output_context(asset_key="frame")
    manager.handle_output(out, numbers)
    metadata = {"dtype_backend": backend} if how == "input" else {}
    kind = dg.PythonObjectDagsterType(pd.DataFrame)
    into = dg.build_input_context(
        asset_key="frame", upstream_output=out, dagster_type=kind, definition_metadata=metadata
    )
    found = manager.load_input(into).sort_values("small", ignore_index=True)
    pd.testing.assert_frame_equal(found, pd.read_parquet(tmp_path / "by-pandas.parquet", dtype_backend=backend))


def test_a_dtype_backend_that_pandas_does_not_have_is_refused_by_name(make: Make) -> None:
    manager = make()
    there_and_back(manager, pd.DataFrame({"n": [1]}))
    into = dg.build_input_context(asset_key="frame", definition_metadata={"dtype_backend": "polars"})
    with pytest.raises(ReadRefused, match="'polars', neither 'pyarrow' nor 'numpy_nullable'"):
        manager.load_input(into)
    with pytest.raises(ValueError, match="dtype_backend"):
        make(dtype_backend="polars")


DAILY = dg.DailyPartitionsDefinition("2024-01-05", end_date="2024-01-07")
OF_TWO_DAYS: dict[str, tuple[Any, Any, list[Any]]] = {
    "more missing": (pd.Series([1]), pd.Series([None], dtype="Int64"), [1, None]),
    "other categories": (pd.Categorical(["a"]), pd.Categorical(["b"]), ["a", "b"]),
    "text, then a category": (["a"], pd.Categorical(["b"]), ["a", "b"]),
    "wider": (pd.Series([1], dtype="int8"), pd.Series([2**40]), [1, 2**40]),
    "whole numbers after fractions": ([1.5], [2], [1.5, 2]),
}


def test_a_dtype_that_differs_from_day_to_day_costs_no_value(make: Make) -> None:
    """A range has the types of the day written last, where they hold the values of all. Each is a column of its own."""
    frames = {
        "2024-01-05": {name: first for name, (first, _, _) in OF_TWO_DAYS.items()},
        "2024-01-06": {name: second for name, (_, second, _) in OF_TWO_DAYS.items()},
    }

    @dg.asset(partitions_def=DAILY)
    def frame(context: dg.AssetExecutionContext) -> pd.DataFrame:
        day = context.partition_key
        return pd.DataFrame({"batch_date": [dt.date.fromisoformat(day)], **frames[day]})

    manager = make()
    for day in (*frames, *frames):
        assert dg.materialize([frame], resources={"io_manager": manager}, partition_key=day).success
    found = dg.Definitions(assets=[frame], resources={"io_manager": manager}).load_asset_value("frame")
    rows = found.sort_values("batch_date")
    values = {name: [None if pd.isna(value) else value for value in rows[name].tolist()] for name in OF_TWO_DAYS}
    assert values == {name: expected for name, (_, _, expected) in OF_TWO_DAYS.items()}


ONE_MEANING: dict[str, tuple[Any, Any, str]] = {
    "days, then months": (
        pd.period_range("2024-01-05", periods=1, freq="D"),
        pd.period_range("2024-01", periods=1, freq="M"),
        "'v' is of type period[M], and in other partitions period[D]",
    ),
    "months, then days": (
        pd.period_range("2024-01", periods=1, freq="M"),
        pd.period_range("2024-01-05", periods=1, freq="D"),
        "'v' is of type period[D], and in other partitions period[M]",
    ),
    "intervals that hold their other end": (
        pd.interval_range(0, 1, closed="left"),
        pd.interval_range(0, 1, closed="right"),
        "'v' is of type interval[int64, right], and in other partitions interval[int64, left]",
    ),
}


@pytest.mark.parametrize("name", ONE_MEANING)
def test_a_type_that_says_what_a_value_means_is_the_same_in_all_partitions(make: Make, name: str) -> None:
    """The rows do not say it, so one day would be read with what the other one meant."""
    first, second, says = ONE_MEANING[name]
    frames = {"2024-01-05": first, "2024-01-06": second}

    @dg.asset(partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())
    def frame(context: dg.AssetExecutionContext) -> pd.DataFrame:
        days = {day: frames[day] for day in context.partition_keys}
        one = [pd.DataFrame({"batch_date": [dt.date.fromisoformat(day)], "v": v}) for day, v in days.items()]
        return pd.concat(one, ignore_index=True)

    def build(**tags: str) -> dg.ExecuteInProcessResult:
        key = None if tags else day
        return dg.materialize(
            [frame], resources={"io_manager": manager}, partition_key=key, tags=tags, raise_on_error=False
        )

    manager = make()
    day = "2024-01-05"
    assert build().success
    day = "2024-01-06"
    for _ in range(2):
        refused = build()
        [failed] = refused.get_step_failure_events()
        assert not refused.success and says in str(failed.step_failure_data.user_failure_data.description)  # type: ignore[union-attr]
    defs = dg.Definitions(assets=[frame], resources={"io_manager": manager})
    assert defs.load_asset_value("frame")["v"].tolist() == list(first)
    frames = dict.fromkeys(frames, second)
    tags = {"dagster/asset_partition_range_start": "2024-01-05", "dagster/asset_partition_range_end": "2024-01-06"}
    assert build(**tags).success, "all partitions at once"
    assert defs.load_asset_value("frame")["v"].tolist() == [*second, *second]


def test_another_process_reads_what_pandas_types_of_its_own_were_written(tmp_path: Path) -> None:
    """A process that never made such a value knows of no such type of Arrow."""
    frame = pd.DataFrame({"p": pd.period_range("2024-01", periods=2, freq="M"), "i": pd.interval_range(0, 2)})
    rows = pa.table({"p": frame["p"].dt.start_time.astype("datetime64[us]"), "i": [{"left": 0, "right": 1}] * 2})
    (tmp_path / "written").write_bytes(pickle.dumps((rows, recorded.of_pandas(pa.Table.from_pandas(frame)))))
    script = """
import pathlib, pickle, sys
from etl_project.storage import recorded
rows, record = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
frame = recorded.to_pandas(rows, record, "recorded")
print(*map(str, frame["p"]), *map(str, frame["i"]), sep="; ")
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "written"], check=True, stdout=subprocess.PIPE)
    assert done.stdout.decode().strip() == "2024-01; 2024-02; (0, 1]; (0, 1]"


def test_what_another_tool_wrote_has_pandas_own_dtypes(make: Make) -> None:
    rows = pa.table({"n": [1, 2], "x": ["a", None], "span": pa.array([dt.timedelta(1), None])})
    found = there_and_back(
        make(), rows if isinstance(make(), DuckDBPartitionIOManager) else rows.drop_columns(["span"])
    )
    assert [str(dtype) for dtype in found.dtypes][:2] == ["int64", "str"]
    if "span" in found:
        assert found["span"].tolist()[0] == dt.timedelta(1)


@pytest.mark.parametrize("first", ["category", "Int64", "timedelta64[us]"])
def test_a_record_that_no_longer_fits_the_values_is_not_applied(make: Make, first: str, tmp_path: Path) -> None:
    """The table is replaced by hand, and the column is text now."""
    manager = make()
    there_and_back(manager, pd.DataFrame({"x": pd.Series([1], dtype="int64").astype(first)}))
    if not isinstance(manager, DuckDBPartitionIOManager):
        return
    with manager.store().connect() as connection:
        connection.execute("CREATE OR REPLACE TABLE main.frame AS SELECT 'text' AS x")
    into = dg.build_input_context(asset_key="frame", dagster_type=dg.PythonObjectDagsterType(pd.DataFrame))
    assert manager.load_input(into)["x"].tolist() == ["text"]


POLARS: dict[str, Callable[[], pl.Series]] = {
    "int8": lambda: pl.Series([1, None], dtype=pl.Int8),
    "uint64": lambda: pl.Series([2**63, None], dtype=pl.UInt64),
    "float32": lambda: pl.Series([1.5, None], dtype=pl.Float32),
    "bool": lambda: pl.Series([True, None]),
    "text": lambda: pl.Series(["a", None]),
    "bytes": lambda: pl.Series([b"a", None]),
    "category": lambda: pl.Series(["a", None], dtype=pl.Categorical),
    "enum": lambda: pl.Series(["a", None], dtype=pl.Enum(["b", "a"])),
    "date": lambda: pl.Series([dt.date(2024, 1, 1), None]),
    "time": lambda: pl.Series([dt.time(1, 2, 3, 4), None]),
    "moments": lambda: pl.Series([dt.datetime.fromisoformat("2024-01-01"), None], dtype=pl.Datetime("ms")),
    "moments of a zone": lambda: pl.Series(
        [dt.datetime.fromisoformat("2024-01-01"), None], dtype=pl.Datetime("us")
    ).dt.replace_time_zone("Asia/Shanghai"),
    "spans": lambda: pl.Series([dt.timedelta(1), None]),
    "spans ms": lambda: pl.Series([dt.timedelta(1), None], dtype=pl.Duration("ms")),
    "decimal": lambda: pl.Series([Decimal("1.5"), None], dtype=pl.Decimal(10, 2)),
    "list": lambda: pl.Series([["a"], []]),
    "array": lambda: pl.Series([[1, 2], None], dtype=pl.Array(pl.Int32, 2)),
    "struct": lambda: pl.Series([{"a": 1}, {"a": None}]),
}


def test_every_polars_dtype_comes_back_with_its_values(anywhere: PartitionIOManager) -> None:
    frame = pl.DataFrame({"key": [1, 2]} | held(anywhere, POLARS))
    found = there_and_back(anywhere, frame, pl.DataFrame).sort("key")
    assert found.schema == frame.schema
    assert found.to_dict(as_series=False) == frame.to_dict(as_series=False)


def test_a_complex_number_is_refused_by_the_name_of_its_column(make: Make) -> None:
    with pytest.raises(WriteRefused, match="odd one"):
        there_and_back(make(), pd.DataFrame({"odd one": [1 + 2j]}))
