"""Small batches become larger ones: the same rows, in the same order, in a memory that follows the rows alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl_project.storage.contract import Request, Scope, StoreUnavailable, Table
from etl_project.storage.judging import gather
from etl_project.storage.lake.store import ParquetStore

DAY = date(2025, 3, 3)
NEXT = DAY + timedelta(days=1)
RAW = Table("payments_raw", "payments_raw")
LEAST_MB = 128


def numbered(sizes: list[int]) -> list[pa.RecordBatch]:
    """Batches of these sizes, their rows numbered through."""
    starts = [sum(sizes[:at]) for at in range(len(sizes))]
    return [pa.record_batch({"n": pa.array(range(at, at + size))}) for at, size in zip(starts, sizes, strict=True)]


@given(st.lists(st.sampled_from([0, 1, 2, 5, 700, 8_191, 8_192, 20_000]), max_size=40))
def test_the_rows_and_their_order_are_the_same_whatever_batches_they_came_in(sizes: list[int]) -> None:
    made = list(gather.gathered(numbered(sizes)))
    assert [n for batch in made for n in batch["n"].to_pylist()] == list(range(sum(sizes)))
    assert all(batch.num_rows for batch in made)


def test_a_thousand_files_of_five_rows_are_one_batch_or_two() -> None:
    assert len(list(gather.gathered(numbered([5] * 1_000)))) == 2
    assert len(list(gather.gathered(numbered([5] * 100)))) == 1


def test_a_large_batch_is_passed_on_without_a_copy() -> None:
    small, large = numbered([3, 10_000])
    first, second = gather.gathered([small, large])
    assert first is small and second is large


def test_a_table_in_small_chunks_is_laid_out_anew_and_any_other_stays_what_it_is() -> None:
    chunked = pa.Table.from_batches(numbered([5] * 1_000))
    assert gather.with_large_chunks(chunked).equals(chunked)
    assert gather.with_large_chunks(chunked).column(0).num_chunks == 2
    whole = pa.Table.from_batches(numbered([10_000, 10_000]))
    assert gather.with_large_chunks(whole) is whole
    assert gather.with_large_chunks(pa.table({})).num_columns == 0


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None, "b"], pa.string_view()),
        pa.array(["a", None, "b"]).dictionary_encode(),
        pa.array([{"x": [1, 2]}, None, {"x": []}]),
        pa.array([{"x": "a"}, None, {"x": "b"}], pa.struct([("x", pa.dictionary(pa.int8(), pa.string()))])),
        pa.array([b"1234567812345678", None, b"8765432187654321"], pa.uuid()),
        pa.array([None, None, None]),
        pa.UnionArray.from_sparse(pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3]), pa.array(["a", "b", "c"])]),
    ],
    ids=str,
)
def test_columns_of_every_kind_of_type_keep_their_values(column: pa.Array) -> None:
    batches = [pa.record_batch({"c": column.slice(at, 1)}) for at in range(3)] * 2
    made = pa.Table.from_batches(gather.gathered(batches))
    assert made["c"].to_pylist() == column.to_pylist() * 2


def rows_of_files(count: int) -> Iterator[pa.RecordBatch]:
    """What many files of five rows give, for two days: a batch of five rows and twenty columns each."""
    for at in range(count):
        day = DAY if at < count // 2 else NEXT
        texts = {f"c{n}": pa.array([f"{at}-{row}-{n}" for row in range(5)]) for n in range(20)}
        yield pa.record_batch({"batch_date": pa.repeat(pa.scalar(day, pa.date32()), 5), **texts})


def written(folder: Path, data: Any) -> list[int]:
    commits = ParquetStore(folder, memory_limit_mb=LEAST_MB).replace(RAW, Scope.days(DAY, NEXT), data, Request("a run"))
    return [commit.rows for commit in commits]


def test_thousands_of_tiny_batches_are_staged_in_the_least_memory_that_can_be_set(tmp_path: Path) -> None:
    batches = list(rows_of_files(3_000))
    as_stream = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
    assert written(tmp_path, as_stream) == [7_500, 7_500]
    assert written(tmp_path, as_table := pa.Table.from_batches(batches)) == [7_500, 7_500]
    assert written(tmp_path / "once", as_table) == [7_500, 7_500]


def test_what_does_not_fit_into_memory_names_the_setting(tmp_path: Path) -> None:
    wide = pa.table({"batch_date": [DAY], "text": ["x" * 150_000_000]})
    store = ParquetStore(tmp_path, memory_limit_mb=LEAST_MB)
    with pytest.raises(StoreUnavailable, match="ETL_MEMORY_LIMIT_MB"):
        store.replace(RAW, Scope.days(DAY, NEXT), wide, Request("a run"))
