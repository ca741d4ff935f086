"""A warehouse copied into another one: every pair of engines, twice, stopped, changed since, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from etl_project.storage.contract import Request, Scope, Sql, Table, WriteRefused
from etl_project.storage.copying import copy_warehouse
from etl_project.storage.engines.duckdb_file import DuckDBStore
from etl_project.storage.tables.store import TableStore
from etl_project_tests import postgres

ONE, TWO = date(2024, 3, 5), date(2024, 3, 6)
BOTH = Scope.days(ONE, TWO)
CONTRACT = """
CREATE TABLE orders (
    batch_date DATE NOT NULL,
    id BIGINT,
    note VARCHAR DEFAULT 'none',
    price DECIMAL(10, 2) CHECK (price >= 0),
    PRIMARY KEY (batch_date, id)
);
COMMENT ON TABLE orders IS 'what was ordered, it''s all here';
COMMENT ON COLUMN orders.price IS 'in euros';
CREATE INDEX orders_by_note ON orders (note);
"""
ORDERS = Table("orders", "orders", contract_sql=CONTRACT, keep_versions=3)
SALES = Table("shop/sales", "sales", schema="shop")
ALL = (ORDERS, SALES)

Made = Callable[[Path], TableStore]


def _file(folder: Path) -> TableStore:
    return DuckDBStore(folder / "w.duckdb")


def _server(folder: Path) -> TableStore:
    from etl_project.storage.engines.postgres.engine import PostgresStore  # noqa: PLC0415

    return PostgresStore(postgres.plain_url_of(folder), scratch=folder)


def _lake(folder: Path) -> TableStore:
    from etl_project.storage.engines.ducklake.engine import DuckLakeStore  # noqa: PLC0415

    return DuckLakeStore(postgres.url_of(folder), folder / "files", scratch=folder)


ENGINES = {"file": _file, "server": _server, "lake": _lake}
REST = (
    *(("file", "lake"), ("lake", "file"), ("server", "lake")),
    *(("lake", "server"), ("server", "file"), ("server", "server"), ("lake", "lake")),
)
PAIRS = [
    pytest.param("file", "file"),
    pytest.param("file", "server", marks=postgres.needed),
    *(pytest.param(*pair, marks=(postgres.needed, pytest.mark.stress)) for pair in REST),
]
"""From a file to a server every day, the others in `make crash`."""


def rows(*of: tuple[date, int, str]) -> pa.Table:
    days, ids, notes = zip(*of, strict=True)
    return pa.table(
        {
            "batch_date": pa.array(days, pa.date32()),
            "id": pa.array(ids, pa.int64()),
            "note": notes,
            "price": pa.array([n + 0.25 for n in ids]).cast(pa.decimal128(10, 2)),
        }
    )


def put(store: TableStore, table: Table, scope: Scope, data: pa.Table, run: str = "a run") -> None:
    store.replace(table, scope, data, Request(run, input_hashes=dict.fromkeys([p.key for p in scope.partitions], "h")))


def filled(store: TableStore) -> None:
    """Two days of a table with a contract, one of them written twice; a table of another schema, with wide sums."""
    put(store, ORDERS, BOTH, rows((ONE, 1, "a"), (ONE, 2, "b"), (TWO, 1, "c")))
    put(store, ORDERS, Scope.days(ONE, ONE), rows((ONE, 1, "a"), (ONE, 3, "ü\n'")), "another run")
    with duckdb.connect() as connection:
        sums = connection.sql(
            "SELECT DATE '2024-03-05' AS batch_date, 'x' AS shop, sum(range) AS n, 0.1::DOUBLE AS f, "
            "TIMESTAMPTZ '2024-03-05 10:00:00.123456+01' AS at FROM range(10)"
        )
        store.replace(SALES, Scope.days(ONE, ONE), sums, Request("a run"))


def content(store: TableStore) -> object:
    """Everything that a copy has to bring: rows as Python has them, commit records, kept versions."""
    found: list[object] = []
    for table, scope in ((ORDERS, BOTH), (SALES, Scope.days(ONE, ONE))):
        there = store.arrow(store.read(table, scope))
        found.append(sorted(map(repr, there.select(sorted(there.column_names)).to_pylist())))
        for key in [partition.key for partition in scope.partitions]:
            found.append(store.history(table.asset, key))
            kept = store.versions(table, key)
            found.append(kept)
            found += [store.arrow(store.read_version(table, key, one.sequence)).to_pylist() for one in kept]
    return found


def hashed(store: TableStore) -> object:
    """The fingerprints: of values, whatever the types of integers."""
    return [store.last_commits([asset]) for asset in ("orders", "shop/sales")]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_copy_has_all_that_the_source_has_a_second_one_finds_it_there_and_a_third_brings_what_changed_since(
    one: str, other: str, tmp_path: Path
) -> None:
    source, target = ENGINES[one](tmp_path / "one"), ENGINES[other](tmp_path / "other")
    filled(source)
    before = hashed(source)
    first = copy_warehouse(source, target, ALL)
    assert (first.refused, [one.copied for one in first.done]) == ({}, [True, True])
    assert hashed(target) == before == hashed(source)
    assert content(target) == content(source)
    there = content(target)
    again = copy_warehouse(source, target, ALL)
    assert [one.copied for one in again.done] == [False, False]
    assert [one.left for one in again.done] == [one.left for one in first.done]
    assert content(target) == there
    put(source, ORDERS, Scope.days(TWO, TWO), rows((TWO, 7, "new"), (TWO, 8, "new")), "since")
    third = copy_warehouse(source, target, ALL)
    assert ([one.copied for one in third.done], third.refused) == ([True, False], {})
    assert hashed(target) == hashed(source)
    assert len(target.versions(ORDERS, str(TWO))) == 1
    # A write of the same rows, as a drain would make it, changes nothing: the fingerprints are those of the rows.
    put(target, ORDERS, Scope.days(TWO, TWO), rows((TWO, 7, "new"), (TWO, 8, "new")), "a later run")
    assert not target.last_commits(["orders"])["orders", str(TWO)].changed


@pytest.mark.parametrize("other", ["file", pytest.param("server", marks=postgres.needed)])
def test_keys_defaults_comments_and_indexes_are_there_and_hold(other: str, tmp_path: Path) -> None:
    source, target = _file(tmp_path / "one"), ENGINES[other](tmp_path / "other")
    filled(source)
    copy_warehouse(source, target)  # By what the source knows alone, without a project.
    assert target.key(Table("orders", "orders")) in (["batch_date", "id"], [])
    with target.connect() as connection, pytest.raises(duckdb.Error, match=r"(?i)duplicate key"):
        home = target.engine.schema
        connection.execute(f"INSERT INTO {home}.orders (batch_date, id) VALUES ('2024-03-05', 1)")
    with target.connect() as connection:
        table = target.engine.table(connection, Table("orders", "orders"))
        from etl_project.storage.copying.drawn import draw  # noqa: PLC0415

        shape = draw(target.engine, connection, table, CONTRACT).shape
    assert shape.comment == "what was ordered, it's all here"
    assert [c.comment for c in shape.columns] == [None, None, None, "in euros"]
    assert [c.required for c in shape.columns] == [True, True, False, False]
    assert [bool(c.default) for c in shape.columns] == [False, False, True, False]
    assert [index.name for index in shape.indexes] == ["orders_by_note"] and len(shape.keys) == 1 == len(shape.checks)


@pytest.mark.parametrize("other", ["file", pytest.param("server", marks=postgres.needed)])
def test_what_was_kept_under_a_former_name_comes_along_although_it_has_no_table(other: str, tmp_path: Path) -> None:
    source, target = _file(tmp_path / "one"), ENGINES[other](tmp_path / "other")
    filled(source)
    renamed = replace(ORDERS, asset="renamed", renamed_from="orders")
    put(source, renamed, Scope.days(TWO, TWO), rows((TWO, 5, "later")))
    [before] = source.versions(ORDERS, str(ONE))
    assert copy_warehouse(source, target, [renamed, SALES]).refused == {}
    assert target.versions(ORDERS, str(ONE)) == [before]
    there = [
        store.arrow(store.read_version(ORDERS, str(ONE), before.sequence)).to_pylist() for store in (source, target)
    ]
    assert there[0] == there[1] != []
    assert not any(one.copied for one in copy_warehouse(source, target, [renamed, SALES]).done)


@postgres.needed
@pytest.mark.stress
def test_a_kept_version_that_a_lake_does_not_hold_is_refused_with_its_column(tmp_path: Path) -> None:
    source, target = _file(tmp_path / "one"), _lake(tmp_path / "other")
    table = Table("t", "t", partition_column=None, keep_versions=2)
    for value in (-0.0, 1.0):
        source.replace(table, Scope.whole(), pa.table({"f": [value]}), Request("a run"))
    assert "kept versions of 't': column 'f' has -0.0" in copy_warehouse(source, target).refused["t"]


def test_what_is_no_assets_is_named_and_stays(tmp_path: Path) -> None:
    source, target = _file(tmp_path / "one"), _file(tmp_path / "other")
    filled(source)
    with source.connect() as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS n; CREATE VIEW seen AS SELECT * FROM orders")
    assert copy_warehouse(source, target).others == ("table main.mine", "view main.seen")


@pytest.mark.parametrize("other", ["file", pytest.param("server", marks=postgres.needed)])
def test_rows_that_no_copy_has_written_are_never_touched(other: str, tmp_path: Path) -> None:
    source, target = _file(tmp_path / "one"), ENGINES[other](tmp_path / "other")
    filled(source)
    with target.connect() as connection:
        connection.execute(f"CREATE TABLE {target.engine.schema}.orders (batch_date DATE, n INTEGER)")
        connection.execute(f"INSERT INTO {target.engine.schema}.orders VALUES ('2020-01-01', 1)")
    report = copy_warehouse(source, target, ALL)
    assert list(report.refused) == ["orders"] and "1 rows that were not written by a copy" in report.refused["orders"]
    assert [one.asset for one in report.done] == ["shop/sales"]
    with target.look() as there:
        assert there is not None
        assert there.execute(f"SELECT n FROM {target.engine.schema}.orders").fetchall() == [(1,)]


def test_a_target_that_was_written_to_since_is_refused_by_name(tmp_path: Path) -> None:
    source, target = _file(tmp_path / "one"), _file(tmp_path / "other")
    filled(source)
    copy_warehouse(source, target, ALL)
    put(target, ORDERS, Scope.days(TWO, TWO), rows((TWO, 9, "theirs")), "a run of the target")
    before = content(target)
    report = copy_warehouse(source, target, ALL)
    assert "has commits of it that" in report.refused["orders"]
    assert content(target) == before


def test_rows_that_were_edited_in_the_target_are_refused_by_name(tmp_path: Path) -> None:
    source, target = _file(tmp_path / "one"), _file(tmp_path / "other")
    filled(source)
    copy_warehouse(source, target, ALL)
    with target.connect() as connection:
        connection.execute("UPDATE orders SET note = 'edited' WHERE id = 3")
    assert "have been changed since a copy has written them" in copy_warehouse(source, target, ALL).refused["orders"]


@pytest.mark.parametrize("other", ["file", pytest.param("server", marks=postgres.needed)])
def test_an_empty_table_that_somebody_has_made_is_filled_as_it_is(other: str, tmp_path: Path) -> None:
    source, target = _file(tmp_path / "one"), ENGINES[other](tmp_path / "other")
    filled(source)
    with target.connect() as connection:
        columns = "id BIGINT, price DECIMAL(12, 2), batch_date DATE, note VARCHAR"
        connection.execute(f"CREATE TABLE {target.engine.schema}.orders ({columns})")
    assert copy_warehouse(source, target, ALL).refused == {}
    assert hashed(target) == hashed(source)


def test_values_of_a_column_that_the_source_has_no_more_go(tmp_path: Path) -> None:
    """The others are the same: whoever compares these alone leaves rows that no commit record tells of."""
    source, target = _file(tmp_path / "one"), _file(tmp_path / "other")
    filled(source)
    copy_warehouse(source, target)
    with source.connect() as connection:
        connection.execute("ALTER TABLE shop.sales DROP COLUMN f")
    report = copy_warehouse(source, target)
    assert (report.refused, [one.copied for one in report.done]) == ({}, [False, True])
    with target.look() as there:
        assert there is not None and there.execute("SELECT shop, f FROM shop.sales").fetchall() == [("x", None)]
    assert not any(one.copied for one in copy_warehouse(source, target).done)


@pytest.mark.parametrize("other", ["file", pytest.param("server", marks=postgres.needed)])
def test_a_table_that_fills_columns_by_itself_is_refused_with_them(other: str, tmp_path: Path) -> None:
    source, target = _file(tmp_path / "one"), ENGINES[other](tmp_path / "other")
    filled(source)
    with target.connect() as connection:
        columns = "id BIGINT, price DECIMAL(10, 2), batch_date DATE, note VARCHAR, own INTEGER, more INTEGER DEFAULT 7"
        connection.execute(f"CREATE TABLE {target.engine.schema}.orders ({columns})")
    for _ in range(2):
        assert "fills columns that are not copied ('more')" in copy_warehouse(source, target).refused["orders"]
    with target.look() as there:
        assert there is not None
        assert there.execute(f"SELECT count(*) FROM {target.engine.schema}.orders").fetchall() == [(0,)]


@postgres.needed
def test_a_value_that_the_target_does_not_hold_is_refused_with_its_column(tmp_path: Path) -> None:
    source, target = _file(tmp_path / "one"), _server(tmp_path / "other")
    put(source, ORDERS, BOTH, rows((ONE, 1, "a"), (TWO, 1, "c")))
    with target.connect() as connection:
        connection.execute("CREATE TABLE public.orders (batch_date DATE, id BIGINT, note VARCHAR, price FLOAT)")
    assert "'price'" in copy_warehouse(source, target, ALL).refused["orders"]
    with target.look() as there:
        assert there is not None and there.execute("SELECT count(*) FROM public.orders").fetchall() == [(0,)]
    nested = Table("nested", "nested")
    source.replace(
        nested,
        Scope.days(ONE, ONE),
        pa.table({"batch_date": pa.array([ONE], pa.date32()), "s": [{"a": 1}]}),
        Request("a run"),
    )
    assert "'s' is STRUCT" in copy_warehouse(source, target, ALL).refused["nested"]


def test_a_warehouse_is_not_copied_into_itself_and_none_is_no_warehouse(tmp_path: Path) -> None:
    source = _file(tmp_path)
    with pytest.raises(WriteRefused, match="there is no warehouse"):
        copy_warehouse(source, _file(tmp_path / "other"))
    with pytest.raises(WriteRefused, match="Name two warehouses"):
        copy_warehouse(source, _file(tmp_path))


def test_types_that_arrow_has_no_name_for_come_as_they_are(tmp_path: Path) -> None:
    source, target = _file(tmp_path / "one"), _file(tmp_path / "other")
    odd = Table("odd", "odd", partition_column=None)
    with source.connect() as connection:
        query = (
            "SELECT 170141183460469231731687303715884105727::HUGEINT AS h, '101'::BIT AS b, 'a'::ENUM('a', 'b') AS e, "
            "INTERVAL 1 MONTH AS i, '12:00:00+02'::TIMETZ AS z, MAP {'a': 1} AS m, [1, 2]::INTEGER[2] AS a, "
            "TIMESTAMP_NS '2024-01-01 00:00:00.000000001' AS ns, UUID '00000000-0000-0000-0000-000000000001' AS u, "
            "-0.0::DOUBLE AS f, '\\x00'::BLOB AS x"
        )
        connection.execute(f"CREATE TABLE odd AS {query} LIMIT 0")
        there = connection.execute(query).fetchall()
    source.replace(odd, Scope.whole(), Sql(query), Request("a run"))
    assert copy_warehouse(source, target).refused == {}
    with target.look() as there_now, source.look() as before:
        assert there_now is not None and before is not None
        assert there_now.execute("FROM odd").fetchall() == before.execute("FROM odd").fetchall() == there
        assert there_now.sql("FROM odd").types == before.sql("FROM odd").types


PROCESS = """
    import sys
    from pathlib import Path
    from etl_project import faults
    from etl_project.storage.copying import copy_warehouse
    from etl_project_tests.unit.storage.copying.test_copy_warehouse import ALL, ENGINES
    one, other, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    copy_warehouse(ENGINES[one](folder / "one"), ENGINES[other](folder / "other"), ALL)
"""
POINTS = ("copy.before_rows", "copy.rows_written", "copy.before_commit", "copy.after_commit")


@pytest.mark.parametrize(
    "other",
    [
        "file",
        pytest.param("server", marks=postgres.needed),
        pytest.param("lake", marks=(postgres.needed, pytest.mark.stress)),
    ],
)
def test_a_killed_copy_leaves_whole_tables_and_the_next_one_goes_on_there(other: str, tmp_path: Path) -> None:
    source = _file(tmp_path / "one")
    filled(source)
    for point in POINTS:
        killed = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROCESS), "file", other, str(tmp_path)],
            env={**os.environ, "ETL_FAULT": f"{point}=kill"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert killed.returncode == -9, killed.stderr
        target = ENGINES[other](tmp_path / "other")
        there = target.last_commits(["orders"])
        assert there in ({}, source.last_commits(["orders"])), point
    done = copy_warehouse(source, target, ALL)
    assert done.refused == {} and hashed(target) == hashed(source)
    assert [one.copied for one in copy_warehouse(source, target, ALL).done] == [False, False]
