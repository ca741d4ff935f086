"""A payload has every row of what an asset returned."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from etl_project.storage.judging.payload import scannable

BATCH = 1_000_000
"""Rows that DuckDB hands out at a time: a relation with more is still being read when its first rows are here."""


@pytest.mark.parametrize("columns", ["range::INTEGER AS n", "range AS n, {'a': 1, 'b': NULL} AS s"])
def test_a_long_relation_is_there_to_its_last_row(columns: str) -> None:
    """Any question on its connection ends the stream of its rows in the middle, and says nothing."""
    with duckdb.connect() as theirs, duckdb.connect() as connection:
        relation = theirs.sql(f"SELECT {columns} FROM range({BATCH + 1})")
        with scannable(connection, relation) as payload:
            [[rows, last]] = connection.execute(f"SELECT count(*), max(n) FROM {payload.name}").fetchall()
    assert (rows, last) == (BATCH + 1, BATCH)


def test_a_relation_over_what_can_be_read_only_once_is_there_to_its_last_row() -> None:
    with duckdb.connect() as theirs, duckdb.connect() as connection:
        once = pa.table({"n": pa.array(range(100), pa.int32())}).to_reader(10)
        with scannable(connection, theirs.from_arrow(once)) as payload:
            assert connection.execute(f"SELECT count(*) FROM {payload.name}").fetchall() == [(100,)]
