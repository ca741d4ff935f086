"""The labels of a pandas frame: what would be lost with them is refused, and what only counts rows is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from etl_project.storage import DuckDBStore
from etl_project.storage.contract import Scope, Table, WriteRefused
from etl_project.storage.dagster import received
from etl_project.storage.judging import labels
from etl_project.storage.judging.payload import as_arrow, scannable

ROWS = pd.DataFrame({"n": [1, 2]})

INDEXES: dict[str, pd.Index[Any]] = {
    "text": pd.Index(["x", "y"]),
    "days": pd.date_range("2024-01-01", periods=2),
    "fractions": pd.Index([0.5, 1.5]),
    "categories": pd.CategoricalIndex(["x", "y"]),
    "truth": pd.Index([True, False]),
    "missing numbers": pd.Index(pd.array([1, None], dtype="Int64")),
    "numbers below zero": pd.Index([-1, 1]),
    "several levels": pd.MultiIndex.from_tuples([(0, 0), (0, 1)]),
    "the name of a column that holds something else": pd.Index([8, 9], name="n"),
}


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_that_counts_no_rows_is_never_lost_without_a_word(name: str) -> None:
    rows = ROWS.set_axis(INDEXES[name])
    with pytest.raises(WriteRefused, match=r"The frame has an index .*only columns are stored.*reset_index\("):
        as_arrow(rows)
    assert as_arrow(rows.reset_index(drop=True)).schema.names == ["n"]


def test_the_way_out_for_an_index_without_a_name_stores_it() -> None:
    rows = ROWS.set_axis(pd.MultiIndex.from_tuples([("x", 0), ("y", 0)]))
    with pytest.raises(WriteRefused, match=r"reset_index\(names=\['\.\.\.', '\.\.\.'\]\)"):
        as_arrow(rows)
    assert as_arrow(rows.reset_index(names=["code", "zero"])).schema.names == ["code", "zero", "n"]


@pytest.mark.parametrize("index", [pd.RangeIndex(2), pd.Index([7, 3]), pd.Index([0, 0], dtype=object)])
def test_row_numbers_are_no_data_and_are_named_where_they_may_be_some(index: pd.Index[Any]) -> None:
    rows = ROWS.set_axis(index)
    assert as_arrow(rows).schema.names == ["n"]
    assert (labels.left_out(rows) is None) == isinstance(index, pd.RangeIndex)


def test_the_index_of_no_rows_is_no_data() -> None:
    assert as_arrow(ROWS.set_axis(["x", "y"]).query("n > 2")).schema.names == ["n"]


def test_an_index_that_is_a_column_as_well_is_not_lost() -> None:
    assert as_arrow(ROWS.set_index("n", drop=False)).schema.names == ["n"]
    assert labels.left_out(ROWS.set_index("n", drop=False)) is None


NAMES: dict[str, tuple[Any, str]] = {
    "several levels": (pd.MultiIndex.from_tuples([("n", "sum"), ("n", "mean")]), r"2 levels, like \('n', 'sum'\)"),
    "days": (pd.date_range("2024-01-01", periods=2), r"no text: Timestamp\("),
    "none": ([None, "n"], r"no text: (None|nan)\."),
    "not a number": ([float("nan"), "n"], r"no text: nan\."),
    "twice": (["n", "n"], r"come twice: 'n'\."),
    "twice as text": ([0, "0"], r"come twice: '0'\."),
    "a tuple among texts": (pd.Index([("a", 1), "n"], tupleize_cols=False), r"no text: \('a', 1\)\."),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_a_column_that_is_no_text_is_refused_by_what_it_is(name: str) -> None:
    columns, words = NAMES[name]
    with pytest.raises(WriteRefused, match=words):
        as_arrow(pd.DataFrame([[1, 2]], columns=columns))


@pytest.mark.parametrize(
    ("row", "words"),
    [({1: 1, "1": 2}, "come twice: '1'"), ({None: 1}, "no text: None"), ({("a", 1): 1}, r"no text: \('a', 1\)")],
)
def test_keys_of_rows_that_would_become_one_column_or_another_name_are_refused(
    tmp_path: Path, row: dict[Any, int], words: str
) -> None:
    table, scope = Table("rows", "rows"), Scope.whole()
    with pytest.raises(WriteRefused, match=words):
        received.rows_of(DuckDBStore(tmp_path / "w.duckdb"), table, scope, [row])


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_name_that_duckdb_would_change_is_refused_whoever_gave_it(name: str) -> None:
    with duckdb.connect() as connection:
        for rows in (pa.table({name: [1]}), pd.DataFrame({name: [1]}), pl.DataFrame({name: [1]})):
            with pytest.raises(WriteRefused, match="names that no table can have"), scannable(connection, rows):
                raise AssertionError("taken")


def test_rows_without_a_column_are_refused() -> None:
    with pytest.raises(WriteRefused, match="3 rows and no columns"):
        as_arrow(pd.DataFrame(index=range(3)))


def test_the_number_that_pandas_gives_to_a_column_without_a_name_is_stored_as_its_text() -> None:
    assert as_arrow(ROWS.assign(total=[5, 6]).rename(columns={"total": 0})).schema.names == ["n", "0"]
