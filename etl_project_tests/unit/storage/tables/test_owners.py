"""Whose rows a table holds: two assets never share one, and a table that was committed before is found where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from etl_project.storage import DuckDBPartitionIOManager, DuckDBStore, ParquetPartitionIOManager, ParquetStore, checked
from etl_project.storage.contract import ReadRefused, Request, Scope, Store, Table, WriteRefused
from etl_project.storage.dagster.scopes import UnsupportedAsset, table_of

DAY, NEXT = date(2024, 3, 5), date(2024, 3, 6)
DAILY = dg.DailyPartitionsDefinition("2024-03-01")


def table(*key: str, schema: str | None = None, **metadata: str) -> Table:
    return table_of(dg.AssetKey(key), metadata, schema)


def put(store: Store, where: Table, n: int, day: date = DAY) -> None:
    rows = pa.table({"batch_date": pa.array([day], pa.date32()), "n": [n]})
    for _ in range(2):
        store.replace(where, Scope.days(day, day), rows, Request("a run"))


def numbers(store: Store, where: Table, *days: date) -> list[int]:
    scope = Scope.days(days[0], days[-1]) if days else Scope.days(DAY, DAY)
    return sorted(store.arrow(store.read(where, scope))["n"].to_pylist())


@pytest.fixture
def store(tmp_path: Path) -> DuckDBStore:
    return DuckDBStore(tmp_path / "w.duckdb", wait_seconds=5)


def as_of_version_0_1(store: DuckDBStore) -> None:
    """Warehouses of that time had no owners, and all tables without a schema of their own lay in `main`."""
    with store.connect() as connection:
        connection.execute("DROP TABLE main.etl_tables")


@pytest.mark.parametrize(
    ("key", "metadata", "configured", "expected"),
    [
        (["daily"], {}, None, None),
        (["shop", "daily"], {}, None, "shop"),
        (["eu", "shop", "daily"], {}, None, "shop"),
        (["shop", "daily"], {}, "dwh", "dwh"),
        (["shop", "daily"], {"schema": "own"}, "dwh", "own"),
    ],
)
def test_the_schema_is_the_metadatas_then_the_io_managers_then_the_prefix(
    key: Sequence[str], metadata: dict[str, str], configured: str | None, expected: str | None
) -> None:
    assert table_of(dg.AssetKey(key), metadata, configured).schema == expected


def test_assets_that_differ_in_their_prefix_have_two_tables(store: DuckDBStore) -> None:
    put(store, table("shop", "daily"), 1)
    put(store, table("hr", "daily"), 2)
    assert numbers(store, table("shop", "daily")) == [1]
    assert numbers(store, table("hr", "daily")) == [2]


@pytest.mark.parametrize("other", ["Orders", "ORDERS"])
def test_an_asset_does_not_replace_rows_of_another_whose_name_differs_only_in_case(
    store: DuckDBStore, other: str
) -> None:
    put(store, table("orders"), 1)
    for day in (DAY, NEXT):
        with pytest.raises(WriteRefused, match=r"'orders' has committed its rows.*'schema' or 'table'.*'renamed_from'"):
            put(store, table(other), 2, day)
    with pytest.raises(ReadRefused, match="belongs to the asset 'orders'"):
        numbers(store, table(other))
    assert numbers(store, table("orders")) == [1]


def test_an_asset_does_not_replace_rows_of_another_whose_metadata_names_the_same_table(store: DuckDBStore) -> None:
    put(store, table("orders"), 1)
    with pytest.raises(WriteRefused, match="'orders' has committed its rows"):
        put(store, table("sales", table="orders"), 2)
    put(store, table("sales", table="orders", schema="own"), 2)
    assert numbers(store, table("orders")) == [1]


@pytest.mark.parametrize("where", ["duckdb:///{0}/w.duckdb", "w.duckdb", "{0}/link.duckdb", "{0}/folder/w.duckdb"])
def test_no_other_way_to_say_where_the_file_lies_hides_whose_table_it_is(
    store: DuckDBStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """As two code locations would, each with an IO manager of its own."""
    put(store, table("orders"), 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.duckdb").symlink_to(tmp_path / "w.duckdb")
    (tmp_path / "folder").symlink_to(tmp_path)
    other = DuckDBStore(where.format(tmp_path), wait_seconds=5)
    for second in (table("ORDERS"), table("sales", schema="MAIN", table="Orders"), table("Main", "orders")):
        with pytest.raises(WriteRefused, match="the asset 'orders' has committed its rows"):
            put(other, second, 2)
        with pytest.raises(ReadRefused, match="belongs to the asset 'orders'"):
            numbers(other, second)
    assert numbers(store, table("orders")) == [1]


def test_the_table_of_a_renamed_asset_goes_over_to_its_new_name(store: DuckDBStore) -> None:
    put(store, table("orders"), 1)
    renamed = table("sales", table="orders", renamed_from="orders")
    put(store, renamed, 2, NEXT)
    assert numbers(store, renamed, DAY, NEXT) == [1, 2]
    with pytest.raises(WriteRefused, match="'sales' has committed its rows"):
        put(store, table("orders"), 3)


def test_a_table_that_the_user_made_becomes_the_first_writers(store: DuckDBStore) -> None:
    with store.connect() as connection:
        connection.execute("CREATE TABLE orders (batch_date DATE, n BIGINT)")
    put(store, table("orders"), 1)
    with pytest.raises(WriteRefused, match="'orders' has committed"):
        put(store, table("Orders"), 2)


def test_a_table_committed_in_main_by_an_asset_with_a_prefix_is_found_there(store: DuckDBStore) -> None:
    before, now = Table("shop/daily", "daily"), table("shop", "daily")
    put(store, before, 1)
    as_of_version_0_1(store)
    assert numbers(store, now) == [1]
    put(store, now, 2, NEXT)
    assert numbers(store, now, DAY, NEXT) == [1, 2]
    with store.connect() as connection:
        found = connection.execute("SELECT schema_name FROM duckdb_tables() WHERE table_name = 'daily'").fetchall()
    assert found == [("main",)]


def test_a_foreign_table_in_the_schema_of_the_prefix_does_not_hide_what_was_committed(store: DuckDBStore) -> None:
    put(store, Table("shop/daily", "daily"), 1)
    as_of_version_0_1(store)
    with store.connect() as connection:
        connection.execute("CREATE SCHEMA shop; CREATE TABLE shop.daily (batch_date DATE, n BIGINT)")
    assert numbers(store, table("shop", "daily")) == [1]


def test_two_assets_that_shared_a_table_before_do_not_take_each_others_rows_any_more(store: DuckDBStore) -> None:
    """Each keeps what is its own: the day that the other one committed last is the other's."""
    shop = Table("shop/daily", "daily")
    put(store, shop, 1, DAY)
    as_of_version_0_1(store)
    with store.connect() as connection:  # The version before let the second asset in.
        rows = connection.execute("SELECT * FROM main.etl_commits").to_arrow_table().to_pylist()[-1]
        assert rows["asset"] == "shop/daily"
        connection.execute("UPDATE main.etl_commits SET fingerprint = '2:1:0' WHERE asset = 'shop/daily'")
        connection.execute(
            "INSERT INTO main.etl_commits SELECT * REPLACE ('hr/daily' AS asset, $mine AS fingerprint) "
            "FROM main.etl_commits LIMIT 1",
            {"mine": rows["fingerprint"]},
        )
    with pytest.raises(WriteRefused, match="holds the rows that the asset 'hr/daily' has committed"):
        store.replace(table("shop", "daily"), Scope.days(DAY, DAY), pa.table({"batch_date": [DAY]}), Request("r"))
    put(store, table("hr", "daily"), 3, DAY)
    assert numbers(store, table("hr", "daily")) == [3]
    with pytest.raises(WriteRefused, match="'hr/daily' has committed its rows"):
        put(store, replace(shop, schema="main"), 4, NEXT)


def test_a_newcomer_does_not_take_over_a_table_of_a_namesake_from_before(store: DuckDBStore) -> None:
    put(store, table("orders"), 1)
    as_of_version_0_1(store)
    with pytest.raises(WriteRefused, match="'orders' may have committed its rows"):
        put(store, table("Orders"), 2, NEXT)
    put(store, table("orders"), 3)
    assert numbers(store, table("orders")) == [3]


def test_files_of_an_asset_are_not_replaced_by_those_of_another(tmp_path: Path) -> None:
    """As on a file system to which upper and lower case are the same."""
    store = ParquetStore(tmp_path / "lake")
    put(store, table("orders"), 1)
    (tmp_path / "lake" / "Orders").symlink_to(tmp_path / "lake" / "orders")
    with pytest.raises(WriteRefused, match="rows that the asset 'orders' has committed"):
        put(store, table("Orders"), 2)
    assert numbers(store, table("orders")) == [1]


def asset_called(*key: str, **options: object) -> dg.AssetsDefinition:
    @dg.asset(key=dg.AssetKey(key), partitions_def=DAILY, **options)  # type: ignore[arg-type]
    def rows() -> pa.Table:
        return pa.table({"batch_date": pa.array([DAY], pa.date32())})

    return rows


@pytest.mark.parametrize(
    "assets",
    [
        [asset_called("orders"), asset_called("Orders")],
        [asset_called("a", "x", "orders"), asset_called("b", "x", "orders")],
        [asset_called("orders"), asset_called("sales", metadata={"table": "orders"})],
        [asset_called("orders"), asset_called("main", "orders")],
    ],
    ids=["case", "the last part of the prefix", "metadata", "a prefix called main"],
)
def test_two_assets_with_one_table_are_refused_when_definitions_load(
    tmp_path: Path, assets: list[dg.AssetsDefinition]
) -> None:
    io_manager = DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))
    with pytest.raises(UnsupportedAsset, match="have one table"):
        checked(dg.Definitions(assets=assets, resources={"io_manager": io_manager}))


def test_two_io_managers_over_one_file_do_not_hide_that_two_assets_have_one_table(tmp_path: Path) -> None:
    url = str(tmp_path / "w.duckdb")
    resources = {
        "one": DuckDBPartitionIOManager(url=url),
        "two": DuckDBPartitionIOManager(url=f"duckdb:///{url}", schema="main"),
        "lake": ParquetPartitionIOManager(root=str(tmp_path / "lake")),
    }
    one, two = asset_called("orders", io_manager_key="one"), asset_called("shop", "Orders", io_manager_key="two")
    with pytest.raises(UnsupportedAsset, match="'orders', 'shop/Orders' have one table"):
        checked(dg.Definitions(assets=[one, two], resources=resources))
    lake = asset_called("shop", "orders", io_manager_key="lake")
    sound = dg.Definitions(assets=[one, lake], resources=resources)
    assert checked(sound) is sound


def test_a_run_over_two_assets_with_prefixes_leaves_both_in_their_own_schema(tmp_path: Path) -> None:
    url = str(tmp_path / "w.duckdb")
    done = dg.materialize(
        [asset_called("shop", "daily"), asset_called("hr", "daily")],
        resources={"io_manager": DuckDBPartitionIOManager(url=url)},
        partition_key=DAY.isoformat(),
    )
    assert done.success
    with duckdb.connect(url) as connection:
        found = connection.execute("SELECT schema_name FROM duckdb_tables() WHERE table_name = 'daily' ORDER BY 1")
        assert found.fetchall() == [("hr",), ("shop",)]


def test_a_dropped_table_is_missed_although_another_schema_has_one_of_that_name(store: DuckDBStore) -> None:
    put(store, table("shop", "daily"), 1)
    put(store, table("hr", "daily"), 2)
    put(store, table("plain"), 3)
    tables = {"shop/daily": "daily", "hr/daily": "Daily", "plain": "plain", "never": "never"}
    assert store.without_table(tables) == {"never"}
    with store.connect() as connection:
        connection.execute("DROP TABLE shop.daily")
        connection.execute("CREATE SCHEMA other; CREATE TABLE other.plain (n INTEGER); DROP TABLE plain")
    assert store.without_table(tables) == {"never", "shop/daily", "plain"}
    with store.connect() as connection:
        connection.execute("CREATE VIEW plain AS FROM other.plain")
    assert store.without_table(tables) == {"never", "shop/daily"}


def test_a_table_from_before_owners_were_noted_is_looked_for_by_its_name(store: DuckDBStore) -> None:
    put(store, table("plain"), 3)
    with store.connect() as connection:
        connection.execute("DROP TABLE etl_tables")
    assert store.without_table({"plain": "plain"}) == frozenset()
    with store.connect() as connection:
        connection.execute("DROP TABLE plain")
    assert store.without_table({"plain": "plain"}) == {"plain"}
