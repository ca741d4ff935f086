"""Streams that are too long to be held: what holds for a frame holds for them, in one pass where a store has one."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from etl_project.storage.contract import InputChanged, Receipt, Request, Table, WriteRefused
from etl_project.storage.lake.store import ParquetStore
from etl_project_tests.contracts import world
from etl_project_tests.contracts.conftest import DAY, NEXT, ORDERS, Bench, day, frame

ROWS = 550_000
BATCH = 50_000
SCHEMA = pa.schema([("batch_date", pa.date32()), ("n", pa.int32())])


def batch(first: int, count: int = BATCH, at: date = DAY, kind: pa.DataType = SCHEMA[1].type) -> pa.RecordBatch:
    numbers = pa.array(np.arange(first, first + count)).cast(kind)
    return pa.record_batch({"batch_date": pa.repeat(pa.scalar(at, pa.date32()), count), "n": numbers})


def batches(rows: int = ROWS, size: int = BATCH) -> Iterator[pa.RecordBatch]:
    return (batch(first, min(size, rows - first)) for first in range(0, rows, size))


def stream(source: Callable[[], Iterator[pa.RecordBatch]] = batches) -> Callable[[], pa.RecordBatchReader]:
    """Makes the stream anew for each time that it is written."""

    def made() -> pa.RecordBatchReader:
        parts = source()
        first = next(parts)
        return pa.RecordBatchReader.from_batches(first.schema, chain([first], parts))

    return made


def found(bench: Bench) -> tuple[int, Any]:
    """The number of rows of the day and the sum of their numbers."""
    rows = bench.arrow(day(DAY))
    return rows.num_rows, pc.sum(rows["n"]).as_py()


ALL = (ROWS, sum(range(ROWS)))


def leftovers(bench: Bench) -> list[Path]:
    """Temporary files of a write that is over."""
    return [path for path in world.leftovers(bench.folder) if path.suffix != ".wal"]


def test_a_long_stream_is_what_is_read(bench: Bench) -> None:
    bench.replace(frame((DAY, -1)), day(DAY))
    bench.replace(stream(), day(DAY))
    assert found(bench) == ALL
    assert leftovers(bench) == []


def files_of_rows(once: Bench) -> dict[Path, int]:
    """The files that hold rows, where a backend has such, and not those of a lake's guards and commit records."""
    found = (path for path in once.folder.rglob("*.parquet") if "cache" not in path.parts)
    return {path: path.stat().st_ino for path in found if "etl_" not in str(path.relative_to(once.folder))}


def test_a_long_stream_has_the_fingerprint_of_its_rows_and_unchanged_is_not_written_again(once: Bench) -> None:
    (as_stream,) = once.replace(stream(), day(DAY))
    files = files_of_rows(once)
    (again,) = once.replace(stream(), day(DAY))
    (as_table,) = once.replace(pa.Table.from_batches(batches()), day(DAY))
    assert as_stream.fingerprint == again.fingerprint == as_table.fingerprint
    assert (as_stream.changed, again.changed, as_table.changed) == (True, False, False)
    assert files_of_rows(once) == files
    assert leftovers(once) == []


def test_rows_of_another_day_late_in_a_long_stream_refuse_it(bench: Bench) -> None:
    def astray() -> Iterator[pa.RecordBatch]:
        yield from batches()
        yield batch(ROWS, 7, NEXT)

    bench.replace(frame((DAY, 1)), day(DAY))
    with pytest.raises(WriteRefused, match=r"7 rows lie outside(?s:.*)2024-03-06 \(7\)(?s:.*)for example"):
        bench.replace(stream(astray), day(DAY))
    assert bench.rows(day(DAY)) == [(DAY, 1)]
    assert leftovers(bench) == []


class SourceGone(Exception):
    """What the maker of a stream may raise: it says whether retrying helps, and has to arrive as it is."""


@pytest.mark.parametrize("last", [DAY, NEXT])
def test_a_long_stream_that_breaks_leaves_the_old_rows_and_its_error_as_it_is(bench: Bench, last: date) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from batches()
        raise SourceGone

    bench.replace(frame((DAY, 1)), day(DAY))
    with pytest.raises(SourceGone):
        bench.replace(stream(broken), day(DAY, last))
    assert bench.rows(day(DAY)) == [(DAY, 1)]
    assert leftovers(bench) == []


def test_values_of_a_long_stream_that_do_not_fit_widen_the_column(bench: Bench) -> None:
    def wide() -> Iterator[pa.RecordBatch]:
        yield from (batch(first, kind=pa.int64()) for first in range(0, ROWS, BATCH))
        yield batch(2**40, 1, kind=pa.int64())

    bench.replace(frame((DAY, 1)), day(DAY))
    bench.replace(stream(wide), day(DAY))
    assert found(bench) == (ROWS + 1, ALL[1] + 2**40)


def test_columns_of_a_long_stream_land_where_their_names_say(bench: Bench) -> None:
    def turned() -> Iterator[pa.RecordBatch]:
        yield from (part.select(["n", "batch_date"]).rename_columns(["N", "batch_date"]) for part in batches())

    bench.replace(frame((DAY, 1), more=pa.array(["x"])), day(DAY))
    bench.replace(stream(turned), day(DAY))
    assert found(bench) == ALL
    assert bench.arrow(day(DAY))["more"].null_count == ROWS


def test_an_input_that_changed_while_a_long_stream_was_read_refuses_the_write(tmp_path: Path) -> None:
    store, other = ParquetStore(tmp_path), Table("other", "other")
    (read,) = store.replace(other, day(DAY), frame((DAY, 1)), Request("a run"))

    def overtaken() -> Iterator[pa.RecordBatch]:
        yield from batches()
        store.replace(other, day(DAY), frame((DAY, 2)), Request("another run"))

    request = Request("a run", reads=(Receipt("other", read.partition, read.fingerprint, store),))
    with pytest.raises(InputChanged):
        store.replace(ORDERS, day(DAY), stream(overtaken)(), request)
    assert store.last_commits(["orders"]) == {}
    assert world.leftovers(tmp_path) == []


@pytest.mark.parametrize("step", ["half_written:3", "before_rename"])
def test_a_kill_in_a_long_stream_leaves_the_old_rows_and_the_next_write_cleans_up(step: str, tmp_path: Path) -> None:
    store = ParquetStore(tmp_path / "lake")
    store.replace(ORDERS, day(DAY), frame((DAY, 1)), Request("a run"))
    assert world.finish(write_stream, tmp_path, f"parquet.{step}=kill") == -signal.SIGKILL
    assert store.arrow(store.read(ORDERS, day(DAY))).to_pylist() == [{"batch_date": DAY, "n": 1}]
    assert len(world.leftovers(tmp_path)) == 2, "the file, and the folder for what does not fit into memory"
    write_stream(tmp_path, "")
    write_stream(tmp_path, "")
    assert store.arrow(store.read(ORDERS, day(DAY))).num_rows == ROWS
    assert world.leftovers(tmp_path) == []


def write_stream(folder: Path, fault: str) -> None:
    """The long stream into the lake; `fault` arms a step."""
    with pytest.MonkeyPatch.context() as patch:
        if fault:
            patch.setenv("ETL_FAULT", fault)
        ParquetStore(folder / "lake").replace(ORDERS, day(DAY), stream()(), Request("a run"))


def test_memory_does_not_grow_with_a_stream(tmp_path: Path) -> None:
    assert world.finish(write_wide_stream, tmp_path) == 0


def write_wide_stream(folder: Path) -> None:
    """400 MB of rows, in far less."""
    columns = {f"c{n}": pa.array(range(n, n + BATCH), pa.int64()) for n in range(16)}
    part = pa.record_batch({"batch_date": pa.repeat(pa.scalar(DAY, pa.date32()), BATCH), **columns})
    write = ParquetStore(folder / "lake").replace
    write(ORDERS, day(DAY), part, Request("a run"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write(ORDERS, day(DAY), pa.RecordBatchReader.from_batches(part.schema, [part] * 60), Request("a run"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 250 * 1024


def test_memory_does_not_grow_with_few_rows_that_are_wide(tmp_path: Path) -> None:
    assert world.finish(write_long_texts, tmp_path) == 0


def write_long_texts(folder: Path) -> None:
    """600 MB in 6,000 rows, in far less."""
    text = pa.repeat("x" * 100_000, 100)
    parts = (batch(first, 100).append_column("text", text) for first in range(0, 6_000, 100))
    schema = batch(0, 100).append_column("text", text).schema
    write = ParquetStore(folder / "lake").replace
    write(ORDERS, day(DAY), schema.empty_table(), Request("a run"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (commit,) = write(ORDERS, day(DAY), pa.RecordBatchReader.from_batches(schema, parts), Request("a run"))
    assert commit.rows == 6_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


def test_days_whose_rows_are_too_wide_to_be_cut_up_in_memory_become_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope, stores = day(DAY, NEXT), [ParquetStore(tmp_path / name) for name in ("cut", "asked")]
    rows = pa.Table.from_batches([batch(0, 100), batch(0, 50, NEXT)])
    stores[0].replace(ORDERS, scope, rows, Request("a run"))
    monkeypatch.setattr("etl_project.storage.lake.write._CUT_BYTES", 0)
    for _ in range(2):
        stores[1].replace(ORDERS, scope, rows, Request("a run"))
    one, other = (store.arrow(store.read(ORDERS, scope)) for store in stores)
    assert one.equals(other)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="it looks at what Linux says is open")
def test_a_stream_that_was_not_read_to_its_end_ends_with_its_block(once: Bench) -> None:
    """Whoever still has it holds nothing open: neither a file that others are to write, nor one that is to go."""
    once.replace(stream(), day(DAY))
    store = once.store()
    with store.batches(store.read(ORDERS, day(DAY))) as held:
        assert held.schema.names
    assert [path for path in open_files() if str(once.folder) in path] == []
    del held


def open_files() -> list[str]:
    """What this process has open."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(path.readlink()))
        except FileNotFoundError:  # The one of this very listing.
            continue
    return found
