"""FOREIGN KEYs in contracts: no version of DuckDB replaces rows that others refer to, so they are refused."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from etl_project.declare import contracts
from etl_project.storage import DuckDBPartitionIOManager, DuckDBStore, ParquetPartitionIOManager, checked
from etl_project.storage.contract import Request, Scope, Table, WriteRefused
from etl_project.storage.dagster.scopes import UnsupportedAsset
from etl_project.storage.tables.contract_sql import problem_of

DAY = date(2024, 3, 5)
PARENT = "CREATE TABLE customers (batch_date DATE, id BIGINT, PRIMARY KEY (batch_date, id));"
CHILD = "CREATE TABLE orders (batch_date DATE, id BIGINT, customer BIGINT, PRIMARY KEY (batch_date, id));"
REFERRING = CHILD.replace(
    "PRIMARY KEY", "FOREIGN KEY (batch_date, customer) REFERENCES customers (batch_date, id), PRIMARY KEY"
)
CUSTOMERS, ORDERS = Table("customers", "customers"), Table("orders", "orders")


def put(store: DuckDBStore, table: Table, contract: str, **columns: int) -> None:
    rows = pa.table({"batch_date": pa.array([DAY], pa.date32()), **{name: [n] for name, n in columns.items()}})
    described = Table(table.asset, table.name, contract_sql=contract)
    for _ in range(2):
        store.replace(described, Scope.days(DAY, DAY), rows, Request("a run"))


@pytest.mark.parametrize(
    "script",
    [
        REFERRING,
        "create table o (c bigint references customers)",
        'CREATE TABLE o (c BIGINT /* \' */ REFERENCES\n"customers" (id))',
    ],
)
def test_a_foreign_key_is_found_however_it_is_written(script: str) -> None:
    assert "FOREIGN KEY" in (problem_of(script) or "")


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE o (reference BIGINT, \"references\" VARCHAR DEFAULT 'REFERENCES')",
        "-- REFERENCES customers\nCREATE TABLE o (n BIGINT); COMMENT ON TABLE o IS 'it''s no REFERENCES x'",
        "/* FOREIGN KEY (a) REFERENCES b */ CREATE TABLE o (n BIGINT)",
    ],
)
def test_words_in_names_texts_and_comments_are_no_foreign_key(script: str) -> None:
    assert problem_of(script) is None


@pytest.mark.parametrize("by_itself", [True, False], ids=["by Dagster", "by checked"])
@pytest.mark.parametrize("kind", ["warehouse", "lake"])
def test_a_contract_with_a_foreign_key_is_refused_when_definitions_load(
    tmp_path: Path, kind: str, by_itself: bool
) -> None:
    @dg.asset(metadata={"contract_sql": PARENT + REFERRING})
    def customers() -> pa.Table:
        raise AssertionError("nothing runs")

    managers = {
        "warehouse": DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb")),
        "lake": ParquetPartitionIOManager(root=str(tmp_path / "lake")),
    }
    with pytest.raises(UnsupportedAsset, match=r"contract of asset 'customers'.*FOREIGN KEY.*Leave the REFERENCES out"):
        defs = dg.Definitions(assets=[customers], resources={"io_manager": managers[kind]})
        defs.get_repository_def() if by_itself else checked(defs)


def test_a_contract_file_with_a_foreign_key_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "contract.sql").write_text(PARENT + REFERRING)
    with pytest.raises(contracts.ContractError, match=r"contract\.sql: .*FOREIGN KEY"):
        contracts.read(tmp_path / "contract.sql")


def test_a_write_does_not_make_a_table_with_a_foreign_key(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "w.duckdb")
    with pytest.raises(WriteRefused, match="FOREIGN KEY"):
        put(store, CUSTOMERS, PARENT + REFERRING, id=1)
    with store.connect() as connection:
        assert connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]


def test_a_foreign_key_that_a_contract_gains_later_leaves_the_table_that_exists_and_its_parent_writable(
    tmp_path: Path,
) -> None:
    """The statement is passed over: DuckDB would mark the parent although the child stays as it is."""
    store = DuckDBStore(tmp_path / "w.duckdb")
    put(store, ORDERS, CHILD, id=7, customer=1)
    for n in (1, 2):
        put(store, CUSTOMERS, PARENT + REFERRING, id=n)
    put(store, ORDERS, PARENT + REFERRING, id=8, customer=9)
    rows = store.arrow(store.read(CUSTOMERS, Scope.days(DAY, DAY))).to_pylist()
    assert rows == [{"batch_date": DAY, "id": 2}]


def test_a_parent_that_was_made_by_hand_names_the_way_out(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "w.duckdb")
    with store.connect() as connection:
        connection.execute(PARENT + REFERRING)
    put(store, CUSTOMERS, PARENT, id=1)
    put(store, ORDERS, CHILD, id=7, customer=1)
    with pytest.raises(WriteRefused, match="Make the other table anew without its FOREIGN KEY"):
        put(store, CUSTOMERS, PARENT, id=2)
