"""Draft: the layout of a file depends on its rows alone, whatever batches they arrive in."""

from __future__ import annotations

import resource
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_project.storage import draft, lake
from etl_project.storage.base import Commit

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
    assert lake.history(tmp_path / "a") == [COMMIT] * (draft.KEPT_RECORDS + 1)


def test_a_draft_that_is_not_finished_has_no_record_and_is_discarded(tmp_path: Path) -> None:
    with draft.discarded(tmp_path / "target", TABLE.schema) as new:
        new.add(TABLE)
        new.close()
        assert pq.read_table(new.path).equals(TABLE)
        assert lake.history(new.path) == []
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
