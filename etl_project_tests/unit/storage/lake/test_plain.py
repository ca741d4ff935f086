"""What Arrow alone reads is what DuckDB reads: the same types, the same values, the same refusals."""

from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_project.storage import contract
from etl_project.storage.contract import InputChanged, Request, Scope, Slice, Table
from etl_project.storage.lake import plain
from etl_project.storage.lake.parquet import file_columns, in_memory
from etl_project.storage.lake.store import ParquetStore

TABLE = Table("orders", "orders")
DAYS = [date(2024, 3, 1), date(2024, 3, 2)]
MOMENT = datetime(2024, 3, 1, 12, 30, 15, 123456, UTC)
PLAIN = {
    **{str(kind): pa.array([1, None], kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{str(kind): pa.array([1, None], kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    **{str(kind): pa.array([0.5, None], kind) for kind in (pa.float32(), pa.float64())},
    "bool": pa.array([True, None]),
    "text": pa.array(["ä", None]),
    "date": pa.array([DAYS[0], None], pa.date32()),
    "time": pa.array([time(1, 2, 3, 4), None], pa.time64("us")),
    "moment": pa.array([MOMENT, None], pa.timestamp("us")),
    "moment in UTC": pa.array([MOMENT, None], pa.timestamp("us", "UTC")),
    "decimal": pa.array([Decimal("1.25"), None], pa.decimal128(9, 2)),
    "long decimal": pa.array([Decimal(10) ** 37, None], pa.decimal128(38, 0)),
}
OTHERS = {
    "milliseconds": pa.array([MOMENT, None], pa.timestamp("ms")),
    "nanoseconds": pa.array([MOMENT, None], pa.timestamp("ns")),
    "dictionary": pa.array(["a", None]).dictionary_encode(),
    "large text": pa.array(["a", None], pa.large_string()),
    "bytes": pa.array([b"a", None]),
    "fixed bytes": pa.array([b"a", None], pa.binary(1)),
    "seconds of the day": pa.array([time(1, 2, 3), None], pa.time32("ms")),
    "another zone": pa.array([MOMENT, None], pa.timestamp("us", "Europe/Berlin")),
    "list": pa.array([[1], None]),
    "struct": pa.array([{"a": 1}, None]),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_plain_column_is_to_arrow_what_it_is_to_duckdb(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "f.parquet"
    pq.write_table(pa.table({"v": PLAIN[kind]}), file)
    schema = plain.schema_of([pq.read_schema(file)])
    assert schema is not None
    with in_memory(tmp_path) as connection:
        assert [str(column.type) for column in file_columns(connection, file)] == list(plain.types(schema).values())
        by_duckdb = connection.sql(f"FROM '{file}'").arrow().read_all()
    made_as = contract.MadeAs("a", ("v",), "", (file,), schema)
    by_arrow = plain.rows(Slice("", made_as=made_as))
    assert by_arrow is not None
    assert by_arrow.schema == by_duckdb.schema
    assert by_arrow.to_pylist() == by_duckdb.to_pylist()


@pytest.mark.parametrize("kind", OTHERS)
def test_a_column_that_may_be_another_one_to_duckdb_is_left_to_it(kind: str) -> None:
    assert plain.schema_of([pa.schema({"n": pa.int64(), "v": OTHERS[kind].type})]) is None


def test_names_that_files_spell_differently_are_left_to_duckdb() -> None:
    assert plain.schema_of([pa.schema({"n": pa.int64()}), pa.schema({"N": pa.int64()})]) is None


def both_days(store: ParquetStore) -> Scope:
    """The second day has one column more, and its own order of columns."""
    first = pa.table({"batch_date": pa.array([DAYS[0]] * 2, pa.date32()), "n": [1, 2]})
    second = pa.table({"more": ["x"], "n": [3], "batch_date": pa.array([DAYS[1]], pa.date32())})
    for day, rows in zip(DAYS, (first, second), strict=True):
        store.replace(TABLE, Scope.days(day, day), rows, Request("r"))
    return Scope.days(*DAYS)


DATABASES = "etl_project.storage.lake.store.in_memory"
"""What the store opens a DuckDB with; None in its place fails."""


@pytest.mark.parametrize("columns", [None, ["n"], ["more", "BATCH_DATE"]])
def test_files_of_other_columns_come_as_by_duckdb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: list[str] | None
) -> None:
    store = ParquetStore(tmp_path)
    scope = both_days(store)
    for asked in (scope, Scope.days(DAYS[0], DAYS[0]), Scope.days(DAYS[1], DAYS[1])):
        with store.batches(store.read(TABLE, asked, columns)) as batches:
            by_duckdb = batches.read_all()
        with monkeypatch.context() as patch:
            patch.setattr(DATABASES, None)
            by_arrow = store.arrow(store.read(TABLE, asked, columns))
        assert by_arrow.schema == by_duckdb.schema
        assert by_arrow.to_pylist() == by_duckdb.to_pylist()


def test_a_partition_without_rows_needs_no_database_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ParquetStore(tmp_path)
    both_days(store)
    never = Scope.days(date(2024, 3, 9), date(2024, 3, 9))
    monkeypatch.setattr(DATABASES, None)
    found = store.arrow(store.read(TABLE, never))
    assert len(found) == 0
    assert found.schema.names == ["batch_date", "n", "more"]


def test_rows_that_say_their_columns_have_those_that_the_newest_file_has_to_duckdb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, table = ParquetStore(tmp_path), replace(TABLE, columns_of_data=True)
    both = both_days(store)
    more = pa.table({"batch_date": pa.array(DAYS[:1], pa.date32()), **{kind: one[:1] for kind, one in PLAIN.items()}})
    for newest in (None, more):  # A day without the columns of the newest one has NULL there.
        if newest is not None:
            store.replace(table, Scope.days(DAYS[0], DAYS[0]), newest, Request("r"))
        with monkeypatch.context() as patch:
            patch.setattr(plain, "schema_of", lambda _: None)
            by_duckdb = store.arrow(store.read(table, both))
        with monkeypatch.context() as patch:
            patch.setattr(DATABASES, None)
            piece = store.read(table, both)
        by_arrow = store.arrow(piece)
        assert by_arrow.schema == by_duckdb.schema
        assert by_arrow.to_pylist() == by_duckdb.to_pylist()
    assert set(PLAIN) < set(by_arrow.column_names)


def test_a_slice_whose_sql_somebody_changed_is_run(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path)
    piece = store.read(TABLE, both_days(store))
    changed = Slice(f"SELECT sum(n) AS s FROM ({piece.sql})", piece.params, made_as=piece.made_as)
    assert store.arrow(changed).to_pylist() == [{"s": 6}]


def test_a_file_that_is_replaced_meanwhile_is_noticed(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path)
    piece = store.read(TABLE, both_days(store))
    store.replace(TABLE, Scope.days(DAYS[0], DAYS[0]), pa.table({"batch_date": DAYS[:1], "n": [9]}), Request("r"))
    with pytest.raises(InputChanged, match="was rewritten after it had been read"):
        store.arrow(piece)


def test_of_a_file_that_is_gone_it_is_said_that_it_was_rewritten(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path)
    piece = store.read(TABLE, both_days(store))
    next(tmp_path.rglob("*2024-03-01/data.parquet")).unlink()
    with pytest.raises(InputChanged, match=r"orders\[2024-03-01\]"):
        store.arrow(piece)
