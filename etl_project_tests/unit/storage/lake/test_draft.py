"""Draft: the layout of a file depends on its rows alone, whatever batches they arrive in."""

from __future__ import annotations

import resource
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_project.storage.contract import Commit
from etl_project.storage.lake import draft, footer, value_sizes

COMMIT = Commit(
    "orders", "2024-03-05", 2, "a run", None, "h", "2:1:a", 0, 1, 1, 0, 0, True, datetime(2024, 3, 5, tzinfo=UTC)
)
ROWS = draft.GROUP_ROWS + 70_000
TABLE = pa.table({"n": pa.array(range(ROWS), pa.int64()), "same": pa.repeat("all the same", ROWS)})


def written(path: Path, rows: pa.Table, batch_rows: int = 10_000) -> Path:
    batches = rows.to_batches(max_chunksize=batch_rows)
    draft.write(path, pa.RecordBatchReader.from_batches(rows.schema, batches), COMMIT, [])
    return path


@pytest.mark.parametrize("batch_rows", [1_000, 77_777, ROWS])
def test_the_batches_in_which_rows_arrive_leave_no_trace_in_the_file(tmp_path: Path, batch_rows: int) -> None:
    one, other = written(tmp_path / "one", TABLE), written(tmp_path / "other", TABLE, batch_rows)
    assert one.read_bytes() == other.read_bytes()
    metadata = pq.read_metadata(one)
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [draft.GROUP_ROWS, 70_000]
    assert pq.read_table(one).equals(TABLE)


WIDE = pa.table(
    {
        "n": pa.array(range(1_000), pa.int64()),
        "text": ["x" * (7 * n % 5_000) for n in range(1_000)],
        "some": [None if n % 3 else [n] * (n % 50) for n in range(1_000)],
        "both": [{"a": b"y" * (n % 100), "b": n % 2 == 0} for n in range(1_000)],
    }
)


@pytest.mark.parametrize("batch_rows", [1, 7, 100, 1_000])
def test_wide_rows_are_cut_by_their_size_at_the_same_rows_in_whatever_batches(batch_rows: int) -> None:
    limit = 100_000

    def cut(rows: pa.Table, size: int) -> list[pa.Table]:
        return list(draft.groups(rows.to_batches(max_chunksize=size), 300, limit))

    expected, found = cut(WIDE, 64), cut(WIDE, batch_rows)
    assert [len(group) for group in found] == [len(group) for group in expected]
    assert pa.concat_tables(found).equals(WIDE) and len(found) > 20
    assert max(group.nbytes for group in found) < 1.2 * limit
    assert [len(group) for group in cut(WIDE.select(["n"]), batch_rows)] == [300, 300, 300, 100]


def test_a_row_wider_than_a_group_is_a_group_of_its_own() -> None:
    rows = pa.table({"text": ["a", "b" * 1_000, "c", "d" * 1_000, "e" * 1_000]})
    for size in (1, 2, 5):
        found = [len(group) for group in draft.groups(rows.to_batches(max_chunksize=size), 300, 100)]
        assert found == [1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        (pa.array([1, None, 3], pa.int16()), 48),
        (pa.array([True, None]), 2),
        (pa.array(["abc", None], pa.string()), 64 + 24),
        (pa.array(["abc", None], pa.string_view()), 64 + 24),
        (pa.array([[1, 2, 3], None], pa.list_(pa.int8())), 64 + 24),
        (pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8())), 64 + 32 + 8 + 8),
        (pa.array(["a", "a"]).dictionary_encode(), 64),
        (pa.nulls(2), 256),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_the_width_of_values_does_not_depend_on_how_they_lie(values: pa.Array, bits: int) -> None:
    whole = pa.record_batch({"x": values})
    assert value_sizes.bits_of(whole) == bits
    assert sum(value_sizes.bits_of(whole.slice(n, 1)) for n in range(len(values))) == bits


def test_columns_whose_values_repeat_have_a_dictionary_and_others_none(tmp_path: Path) -> None:
    group = pq.read_metadata(written(tmp_path / "a", TABLE)).row_group(0)
    assert ["RLE_DICTIONARY" in group.column(n).encodings for n in range(2)] == [False, True]
    assert group.column(0).total_compressed_size < 20_000, "numbers that count are stored as their differences"


@pytest.mark.parametrize(
    "values",
    [
        pa.array([], pa.int64()),
        pa.array([[1, 2], None, []]),
        pa.array([{"a": 1, "b.c": "x"}, None]),
        pa.array([1, 2, 3], pa.duration("us")),
        pa.array([b"1", b"2"], pa.binary(1)),
        pa.array(["a", "b", "a"]).dictionary_encode(),
        pa.nulls(3, pa.int32()),
    ],
    ids=lambda values: f"{len(values)} {values.type}",
)
def test_any_type_comes_back_as_it_was(tmp_path: Path, values: pa.Array) -> None:
    rows = pa.table({"a.b": values})
    assert pq.read_table(written(tmp_path / "a", rows)).equals(rows)
    assert pq.read_table(written(tmp_path / "a", rows)).equals(rows)


def test_the_record_is_in_the_footer_with_some_of_those_before_it(tmp_path: Path) -> None:
    with draft.Draft(tmp_path / "a", TABLE.schema) as new:
        new.finish(COMMIT, [COMMIT] * (draft.KEPT_RECORDS + 5))
    assert footer.history(tmp_path / "a") == [COMMIT] * (draft.KEPT_RECORDS + 1)


def test_a_draft_that_is_not_finished_has_no_record_and_is_discarded(tmp_path: Path) -> None:
    with draft.discarded(tmp_path / "target", TABLE.schema) as new:
        new.add(TABLE)
        new.close()
        assert pq.read_table(new.path).equals(TABLE)
        assert footer.history(new.path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_the_writing_thread_raises_is_raised_to_the_writer(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large"), draft.discarded(tmp_path / "a", TABLE.schema) as new:
            new.add(TABLE)
            new.finish(COMMIT, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
