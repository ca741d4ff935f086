"""Kept versions: what a write replaces stays readable, as often as the table says, and in nobody's way."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from etl_project import utc
from etl_project.failures import EtlError
from etl_project.storage import AsOf
from etl_project.storage.contract import InputChanged, ReadRefused, Request, Scope, Sql, Table, WriteRefused
from etl_project.storage.lake import write as lake_write
from etl_project.storage.tables import transactions
from etl_project_tests import s3
from etl_project_tests.contracts.conftest import DAY, NEXT, ORDERS, Bench, day, frame

KEEPING = replace(ORDERS, keep_versions=2)
KEY = DAY.isoformat()


def kept(bench: Bench, table: Table = KEEPING, key: str | None = KEY) -> dict[int, list[tuple[Any, ...]]]:
    """The rows of every kept version, by its number."""
    store = bench.store()
    return {
        version.sequence: sorted(
            (tuple(row.values()) for row in store.arrow(store.read_version(table, key, version.sequence)).to_pylist()),
            key=str,
        )
        for version in store.versions(table, key)
    }


def contents(bench: Bench, table: Table = KEEPING) -> list[list[tuple[Any, ...]]]:
    return list(kept(bench, table).values())


def test_replaced_rows_are_kept_and_the_oldest_go(bench: Bench) -> None:
    for n in range(1, 5):
        bench.replace(frame((DAY, n), (DAY, 10 * n)), day(DAY), KEEPING)
    assert contents(bench) == [[(DAY, 2), (DAY, 20)], [(DAY, 3), (DAY, 30)]]
    assert bench.rows(day(DAY), KEEPING) == [(DAY, 4), (DAY, 40)]


def test_nothing_is_kept_unless_it_is_asked_for(once: Bench) -> None:
    once.replace(frame((DAY, 1)), day(DAY))
    once.replace(frame((DAY, 2)), day(DAY))
    assert kept(once, ORDERS) == {}
    with pytest.raises(ReadRefused, match=r"commit 1 were replaced and are not kept \(keep_versions is 0\).*ETL_KEEP"):
        once.store().read_version(ORDERS, KEY, 1)
    if once.keeps_constraints:
        with once.store().connect() as connection:  # type: ignore[attr-defined]
            names = connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE schema_name = current_schema() ORDER BY 1"
            ).fetchall()
        assert [name for (name,) in names if "." not in name] == ["etl_commits", "etl_tables", "orders"]
    elif once.backend == "bucket":
        assert {one.key.split("/")[0] for one in s3.objects_of(once.folder).below("")} <= {"orders", ".etl"}
    else:
        assert {path.name for path in (once.folder / "lake").iterdir()} <= {"orders"}


def test_a_write_of_the_same_rows_pushes_no_version_out(once: Bench) -> None:
    for n, code in ((1, "a"), (2, "a"), (2, "b"), (2, "c"), (2, "d")):
        once.replace(frame((DAY, n)), day(DAY), KEEPING, code_version=code)
    assert contents(once) == [[(DAY, 1)]]
    once.replace(frame((DAY, 3)), day(DAY), KEEPING)
    assert contents(once) == [[(DAY, 1)], [(DAY, 2)]]


def test_an_empty_day_is_a_version_like_any_other(once: Bench) -> None:
    once.replace(frame((DAY, 1)), day(DAY), KEEPING)
    once.replace(frame(), day(DAY), KEEPING)
    once.replace(frame((DAY, 2)), day(DAY), KEEPING)
    assert contents(once) == [[(DAY, 1)], []]


def test_days_of_a_range_have_versions_of_their_own(bench: Bench) -> None:
    bench.replace(frame((DAY, 1), (NEXT, 1)), day(DAY, NEXT), KEEPING)
    bench.replace(frame((DAY, 2), (NEXT, 1)), day(DAY, NEXT), KEEPING)
    bench.replace(frame((DAY, 3), (NEXT, 3)), day(DAY, NEXT), KEEPING)
    assert contents(bench) == [[(DAY, 1)], [(DAY, 2)]]
    assert list(kept(bench, key=NEXT.isoformat()).values()) == [[(NEXT, 1)]]


def test_a_version_is_readable_after_columns_were_added_and_widened(bench: Bench) -> None:
    table = replace(KEEPING, keep_versions=9)
    bench.replace(frame((DAY, 1)), day(DAY), table)
    bench.replace(frame((DAY, 2), more=pa.array(["x"])), day(DAY), table)
    big = pa.table({"batch_date": pa.array([DAY], pa.date32()), "n": [2**40], "more": ["y"]})
    bench.replace(big, day(DAY), table)
    bench.replace(frame((DAY, 4), more=pa.array(["z"])), day(DAY), table)
    found = [[row[1] for row in rows] for rows in contents(bench, table)]
    assert found == [[1], [2], [2**40]]
    first = min(kept(bench, table))
    both = AsOf(bench.store(), first).read(table, day(DAY))
    assert bench.store().arrow(both).column("n").to_pylist() == [1]


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("UUID", "'8c7e8a52-7a49-4b4e-9a55-0123456789ab'"),
        ("ENUM ('a', 'b')", "'b'"),
        ("HUGEINT", "170141183460469231731687303715884105727"),
        ("DECIMAL(38, 10)", "1234567890123456789012345678.0123456789"),
        ("TIMESTAMP_NS", "'2024-03-05 10:11:12.123456789'"),
        ("TIMESTAMP WITH TIME ZONE", "'2024-03-05 10:11:12.123456+05'"),
        ("INTERVAL", "'3 months 2 days'"),
        ("STRUCT(a INTEGER, b VARCHAR[])", "{'a': 1, 'b': ['x', NULL]}"),
        ("DOUBLE", "'-0.0'"),
        ("BLOB", "'\\x00\\xFF'::BLOB"),
    ],
)
def test_a_value_of_any_type_comes_back_as_it_was(once: Bench, sql: str, value: str) -> None:
    if not once.keeps_constraints:
        pytest.skip("a version of a file is the file")
    if once.backend == "ducklake" and sql.startswith(("ENUM", "HUGEINT", "INTERVAL")):
        pytest.skip("a lake refuses what Parquet does not hold exactly")
    if once.backend == "postgres" and sql.startswith(("HUGEINT", "TIMESTAMP_NS", "STRUCT")):
        pytest.skip("PostgreSQL has no home for these values, and they are refused by name")
    contract = f"CREATE TABLE orders (batch_date DATE, v {sql})"
    table = replace(KEEPING, contract_sql=contract)
    query = f"SELECT DATE '{DAY}' AS batch_date, {value}::{sql} AS v"
    [first] = once.replace(lambda: Sql(query), day(DAY), table)
    once.replace(lambda: Sql(f"{query} WHERE false"), day(DAY), table)
    [again] = once.replace(
        lambda: Sql("SELECT * FROM old", old=once.store().read_version(table, KEY, 1)), day(DAY), table
    )
    assert again.fingerprint == first.fingerprint and again.rows == 1


def test_readers_of_the_lake_never_meet_a_version(once: Bench) -> None:
    if once.keeps_constraints:
        pytest.skip("a database hides its versions in a schema of their own")
    for n in range(4):
        once.replace(frame((DAY, n)), day(DAY), KEEPING)
    if once.backend == "bucket":
        pytest.skip("objects are met under their keys: see the tests of buckets")
    lake = once.folder / "lake"
    assert len(list(lake.rglob("*.version"))) == 2
    for pattern in ("**/*.parquet", "*/*/*.parquet", "orders/**"):
        assert duckdb.sql(f"SELECT n FROM read_parquet('{lake}/{pattern}')").fetchall() == [(3,)], pattern
    for folder in (lake, lake / "orders"):
        assert ds.dataset(folder, partitioning=None).to_table(columns=["n"]).num_rows == 1


def test_other_tables_of_the_database_are_left_alone(once: Bench) -> None:
    if not once.keeps_constraints:
        pytest.skip("about databases")
    other = Table("crm/orders", "orders", schema="crm", keep_versions=1)
    for n in (1, 2):
        once.replace(frame((DAY, n)), day(DAY), KEEPING)
        once.replace(frame((DAY, 10 * n)), day(DAY), other)
    once.replace(frame((DAY, 30)), day(DAY), other)
    assert contents(once) == [[(DAY, 1)]] and contents(once, other) == [[(DAY, 20)]]
    with once.store().connect() as connection:  # type: ignore[attr-defined]
        assert connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE schema_name = current_schema()"
        ).fetchall() == [(4,)]


def test_what_no_version_needs_any_more_is_dropped(once: Bench) -> None:
    if not once.keeps_constraints:
        pytest.skip("about databases")
    one = replace(KEEPING, keep_versions=1)
    once.replace(frame((DAY, 1)), day(DAY), one)
    once.replace(frame((DAY, 2)), day(DAY), one)
    once.replace(frame((DAY, 3), more=pa.array(["x"])), day(DAY), one)
    once.replace(frame((DAY, 4), more=pa.array(["x"])), day(DAY), one)
    with once.store().connect() as connection:  # type: ignore[attr-defined]
        there = connection.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE schema_name = current_schema() || '_versions'"
        ).fetchall()
    assert there == [(1,)], "the rows of three sets of columns were kept one after the other"
    assert contents(once, one) == [[(DAY, 3, "x")]]


def test_a_version_that_goes_before_it_is_read_is_an_error_and_no_empty_day(once: Bench) -> None:
    one = replace(KEEPING, keep_versions=1)
    once.replace(frame((DAY, 1)), day(DAY), one)
    once.replace(frame((DAY, 2)), day(DAY), one)
    piece = once.store().read_version(one, KEY, 1)
    once.replace(frame((DAY, 3)), day(DAY), one)
    if once.backend == "bucket":
        assert once.store().arrow(piece)["n"].to_pylist() == [1], "there is a local copy of it, whole"
        return
    with pytest.raises((duckdb.Error, InputChanged, ReadRefused), match=r"not kept|No files found"):
        once.store().arrow(piece)
    with pytest.raises(EtlError):
        once.replace(lambda: Sql("SELECT * FROM old", old=piece), day(DAY), Table("copies", "copies"))


def test_a_commit_that_changed_nothing_left_the_rows_of_the_one_before(once: Bench) -> None:
    for n, code in ((1, "a"), (2, "a"), (2, "b"), (2, "c"), (3, "c")):
        once.replace(frame((DAY, n)), day(DAY), KEEPING, code_version=code)
    store = once.store()
    numbers = {
        c.sequence: store.arrow(AsOf(store, c.sequence).read(KEEPING, day(DAY))) for c in store.history("orders", KEY)
    }
    assert [rows.column("n").to_pylist() for rows in numbers.values()] == [[1], [2], [2], [2], [3]]


def test_rows_are_read_as_they_were_at_a_moment(once: Bench) -> None:
    moments = [once.replace(frame((DAY, n)), day(DAY), KEEPING)[0].committed_at for n in (1, 2, 3)]
    once.replace(frame((NEXT, 7)), day(NEXT), KEEPING)
    store = once.store()
    for n, moment in enumerate(moments, 1):
        assert store.arrow(AsOf(store, moment).read(KEEPING, day(DAY))).column("n").to_pylist() == [n]
    with pytest.raises(ReadRefused, match="nothing that is still on record was committed by"):
        AsOf(store, moments[0]).read(KEEPING, day(DAY, NEXT))
    absent = AsOf(store, moments[0], may_be_absent=True).read(KEEPING, day(DAY, NEXT), ["n"])
    assert store.arrow(absent).to_pydict() == {"n": [1]}


def test_by_age_what_was_replaced_long_ago_goes_with_the_next_commit_of_its_day(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = replace(ORDERS, keep_versions=1000, keep_versions_days=30)
    began = utc.now()

    def after(days: int) -> None:
        for module in (transactions, lake_write):
            monkeypatch.setattr(module, "now", lambda: began + timedelta(days))

    for n, days in ((1, 0), (2, 20), (3, 25), (4, 45)):
        after(days)
        bench.replace(frame((DAY, n)), day(DAY), table)
    assert contents(bench, table) == [[(DAY, 1)], [(DAY, 2)], [(DAY, 3)]], "1 was replaced 25 days before the last"
    after(52)
    bench.replace(frame((NEXT, 7)), day(NEXT), table)
    assert len(kept(bench, table)) == 3, "a commit of another day takes none"
    for _ in range(2):
        bench.replace(frame((DAY, 5)), day(DAY), table)
        assert contents(bench, table) == [[(DAY, 2)], [(DAY, 3)], [(DAY, 4)]]
    with pytest.raises(ReadRefused, match=r"not kept \(the table keeps what was replaced within 30 days\)"):
        bench.store().read_version(table, KEY, 1)


def test_writers_of_two_tables_that_let_versions_go_are_not_in_each_others_way(once: Bench) -> None:
    if once.backend != "ducklake":
        pytest.skip("writers of one database wait for each other, and files are one by one")
    one, other = replace(ORDERS, keep_versions=1), replace(ORDERS, asset="sales", name="sales", keep_versions=1)
    store, tries = once.store(), []
    for n, table in ((1, one), (2, one), (1, other), (2, other)):
        store.replace(table, day(DAY), frame((DAY, n)), Request("a run"))

    def in_between() -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            once.store().replace(other, day(DAY), frame((DAY, 3)), Request("the other run"))

    store.replace(one, day(DAY), frame((DAY, 3)), Request("a run", still_owner=in_between))
    assert tries == [0], "its COMMIT met no conflict"
    assert contents(once, one) == contents(once, other) == [[(DAY, 2)]]


def test_an_unpartitioned_table_keeps_versions_too(once: Bench) -> None:
    table = Table("rates", "rates", partition_column=None, keep_versions=1)
    for n in (1, 2, 3):
        once.replace(pa.table({"v": [Decimal(n)]}), Scope.whole(), table)
    assert kept(once, table, None).popitem()[1] == [(Decimal(2),)]


def test_rows_that_were_there_before_the_first_commit_are_kept(once: Bench) -> None:
    if not once.keeps_constraints:
        pytest.skip("a file without a commit record is nobody's")
    with once.store().connect() as connection:  # type: ignore[attr-defined]
        connection.execute(f"CREATE TABLE orders AS SELECT DATE '{DAY}' AS batch_date, 5 AS n")
    once.replace(frame((DAY, 1)), day(DAY), KEEPING)
    assert kept(once) == {0: [(DAY, 5)]}


def test_rows_that_somebody_edited_are_kept_as_they_were(once: Bench) -> None:
    if not once.keeps_constraints:
        pytest.skip("a file is not edited")
    once.replace(frame((DAY, 1)), day(DAY), KEEPING)
    with once.store().connect() as connection:  # type: ignore[attr-defined]
        connection.execute("UPDATE orders SET n = 9")
    once.replace(frame((DAY, 1)), day(DAY), KEEPING)
    assert contents(once) == [[(DAY, 9)]]


def remove_the_file(once: Bench) -> None:
    if once.backend == "bucket":
        objects = s3.objects_of(once.folder)
        return objects.remove([one.key for one in objects.below("orders")])
    [file] = (once.folder / "lake").rglob("data.parquet")
    file.unlink()


def test_a_file_that_was_removed_takes_no_version_along(once: Bench) -> None:
    if once.keeps_constraints:
        pytest.skip("about files")
    for n in (1, 2):
        once.replace(frame((DAY, n)), day(DAY), KEEPING)
    remove_the_file(once)
    assert contents(once) == [[(DAY, 1)]]
    [record] = once.replace(frame((DAY, 3)), day(DAY), KEEPING)
    assert contents(once) == [[(DAY, 1)]] and record.sequence == 2
    once.replace(frame((DAY, 4)), day(DAY), KEEPING)
    assert contents(once) == [[(DAY, 1)], [(DAY, 3)]]


def test_a_refused_write_keeps_no_version(once: Bench) -> None:
    once.replace(frame((DAY, 1)), day(DAY), KEEPING)
    with pytest.raises(WriteRefused):
        once.replace(frame((date(2024, 1, 1), 2)), day(DAY), KEEPING)
    assert kept(once) == {}


def test_an_asset_that_was_renamed_keeps_no_more_than_it_says(once: Bench) -> None:
    if not once.keeps_constraints:
        pytest.skip("a renamed asset has a folder of its own")
    renamed = replace(KEEPING, asset="sales", renamed_from="orders")
    for n in (1, 2, 3):
        once.replace(frame((DAY, n)), day(DAY), KEEPING)
    for n in (4, 5, 6):
        once.store().replace(renamed, day(DAY), frame((DAY, n)), Request("a run"))
    with once.store().connect() as connection:  # type: ignore[attr-defined]
        left = "version NOT IN (SELECT version FROM etl_versions WHERE rows_in = '')"
        assert connection.execute(f"SELECT count(*) FROM etl_versions WHERE {left}").fetchall() == [(2,)]
    assert list(kept(once, renamed).values()) == [[(DAY, 4)], [(DAY, 5)]]
