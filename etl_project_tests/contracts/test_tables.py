"""Promise 5: the table is the user's. It is created from its contract, altered, and never dropped or recreated."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from dagster_duckdb import DuckDBResource

from etl_project.storage.contract import Request, Scope, StoreBusy, WriteRefused
from etl_project.storage.engines.duckdb_file import DuckDBStore
from etl_project_tests.contracts.conftest import DAY, NEXT, ORDERS, day, frame

CONTRACT = """
-- orders; and a sibling
CREATE TABLE orders (
    batch_date DATE NOT NULL,
    n INTEGER NOT NULL CHECK (n < 100),
    note VARCHAR DEFAULT 'none',
    PRIMARY KEY (batch_date, n)
);
COMMENT ON TABLE orders IS 'What was; ordered';
COMMENT ON COLUMN orders.n IS 'number';
CREATE INDEX orders_by_note ON orders (note);
CREATE TABLE orders_rejects (batch_date DATE NOT NULL, raw VARCHAR);
COMMENT ON TABLE orders_rejects IS 'bad rows';
"""
TABLE = replace(ORDERS, contract_sql=CONTRACT)
REJECTS = replace(TABLE, asset="orders_rejects", name="orders_rejects")


@pytest.fixture
def store(tmp_path: Path) -> DuckDBStore:
    return DuckDBStore(tmp_path / "warehouse.duckdb", wait_seconds=1)


def ask(store: DuckDBStore, query: str) -> list[tuple[object, ...]]:
    with closing(duckdb.connect(str(store.path))) as connection:
        return connection.execute(query).fetchall()


def catalog(store: DuckDBStore) -> list[tuple[object, ...]]:
    """All that the user said about the tables."""
    return [
        *ask(
            store, "SELECT table_name, comment, sql FROM duckdb_tables() WHERE table_name <> 'etl_commits' ORDER BY 1"
        ),
        *ask(store, "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE comment IS NOT NULL"),
        *ask(store, "SELECT index_name, sql FROM duckdb_indexes() ORDER BY 1"),
        *ask(store, "SELECT view_name, sql FROM duckdb_views() WHERE NOT internal ORDER BY 1"),
    ]


@pytest.mark.parametrize("times", [1, 2])
def test_constraints_indexes_comments_and_views_survive(store: DuckDBStore, times: int) -> None:
    store.replace(TABLE, day(DAY), frame((DAY, 1)), Request("r"))
    ask(store, "CREATE VIEW many AS SELECT count(*) AS rows FROM orders")
    ask(store, "CREATE UNIQUE INDEX only_one ON orders (batch_date, n)")
    ask(store, "COMMENT ON TABLE orders IS 'mine now'")
    before = catalog(store)
    for _ in range(times):
        store.replace(TABLE, day(DAY), frame((DAY, 1), (DAY, 2)), Request("r"))
        store.replace(REJECTS, day(DAY), frame()[["batch_date"]], Request("r"))
    assert catalog(store) == before
    assert ask(store, "SELECT rows FROM many") == [(2,)]


def test_the_script_of_a_sibling_that_exists_already_creates_only_what_is_missing(store: DuckDBStore) -> None:
    ask(store, "CREATE TABLE orders (batch_date DATE, n INTEGER, mine VARCHAR)")
    ask(store, "COMMENT ON TABLE orders IS 'mine'")
    before = ask(store, "SELECT comment, sql FROM duckdb_tables()")
    with pytest.raises(WriteRefused, match="note"):
        store.replace(REJECTS, day(DAY), frame()[["batch_date"]], Request("r"))
    ask(store, "ALTER TABLE orders ADD COLUMN note VARCHAR")
    for _ in range(2):
        store.replace(REJECTS, day(DAY), frame()[["batch_date"]], Request("r"))
    assert ask(store, "SELECT comment FROM duckdb_tables() WHERE table_name = 'orders_rejects'") == [("bad rows",)]
    assert ask(store, "SELECT comment FROM duckdb_tables() WHERE table_name = 'orders'") == [(before[0][0],)]


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("DROP TABLE orders", "may hold CREATE"),
        ("CREATE OR REPLACE TABLE orders (n INTEGER)", "may hold CREATE"),
        ("CREATE TABLE orders AS SELECT 1 AS n; DELETE FROM orders", "may hold CREATE"),
        ("CREATE TABLE elsewhere (n INTEGER)", "creates no table 'orders'"),
        ("CREATE TABLE orders (n NONSENSE)", "NONSENSE"),
        ("CREATE TABEL orders (n INTEGER)", "TABEL"),
    ],
)
def test_a_script_that_is_no_contract_is_refused(store: DuckDBStore, script: str, complaint: str) -> None:
    with pytest.raises(WriteRefused, match=complaint):
        store.replace(replace(ORDERS, contract_sql=script), day(DAY), frame((DAY, 1)), Request("r"))
    assert ask(store, "SELECT table_name FROM duckdb_tables()") == []


@pytest.mark.parametrize(
    "bad",
    [frame((DAY, 1), (DAY, 1)), frame((DAY, None)), frame((DAY, 100))],
    ids=["duplicate key", "null", "check"],
)
@pytest.mark.parametrize("times", [1, 2])
def test_a_broken_constraint_leaves_the_old_rows(store: DuckDBStore, bad: pd.DataFrame, times: int) -> None:
    store.replace(TABLE, day(DAY), frame((DAY, 7)), Request("r"))
    for _ in range(times):
        with pytest.raises(WriteRefused, match=r"orders.*2024-03-05") as caught:
            store.replace(TABLE, day(DAY), bad, Request("r"))
        assert not caught.value.retryable
    assert ask(store, "SELECT n FROM orders") == [(7,)] and len(store.history("orders", "2024-03-05")) == 1


def test_a_column_that_does_not_come_gets_its_default_and_stays_unchanged(store: DuckDBStore) -> None:
    store.replace(TABLE, day(DAY), frame((DAY, 1)), Request("r"))
    (again,) = store.replace(TABLE, day(DAY), frame((DAY, 1)), Request("r"))
    assert ask(store, "SELECT note FROM orders") == [("none",)] and not again.changed


def test_generated_columns_are_left_to_the_table(store: DuckDBStore) -> None:
    ask(store, "CREATE TABLE orders (batch_date DATE, n INTEGER, twice INTEGER GENERATED ALWAYS AS (n * 2))")
    for _ in range(2):
        (commit,) = store.replace(ORDERS, day(DAY), frame((DAY, 1)), Request("r"))
    assert ask(store, "SELECT twice FROM orders") == [(2,)] and not commit.changed


def test_rows_edited_by_hand_are_written_again(store: DuckDBStore) -> None:
    (first,) = store.replace(TABLE, day(DAY), frame((DAY, 1), (DAY, 2)), Request("r"))
    ask(store, "UPDATE orders SET n = 3 WHERE n = 2")
    (again,) = store.replace(TABLE, day(DAY), frame((DAY, 1), (DAY, 2)), Request("r"))
    assert again.fingerprint == first.fingerprint and again.rows_added == 1
    assert ask(store, "SELECT n FROM orders ORDER BY n") == [(1,), (2,)]


def test_unchanged_rows_are_not_touched(store: DuckDBStore) -> None:
    store.replace(TABLE, day(DAY), frame((DAY, 1), (DAY, 2)), Request("r"))
    before = ask(store, "SELECT rowid, * FROM orders")
    store.replace(TABLE, day(DAY), frame((DAY, 2), (DAY, 1)), Request("r"))
    assert ask(store, "SELECT rowid, * FROM orders") == before


@pytest.mark.parametrize("times", [1, 2])
def test_a_table_without_the_partition_column_gets_it(store: DuckDBStore, times: int) -> None:
    ask(store, "CREATE TABLE orders (n INTEGER PRIMARY KEY, ordered TIMESTAMP)")
    ask(store, "INSERT INTO orders VALUES (1, '2024-03-05 10:00'), (2, '2024-03-06 10:00')")
    table = replace(ORDERS, partition_expression="ordered::DATE")
    for _ in range(times):
        store.replace(table, day(DAY), frame((DAY, 3)), Request("r"))
    assert ask(store, "SELECT batch_date, n FROM orders ORDER BY n") == [(NEXT, 2), (DAY, 3)]


def test_an_empty_table_gets_its_partition_column_without_being_told_how(store: DuckDBStore) -> None:
    ask(store, "CREATE TABLE orders (n INTEGER)")
    store.replace(ORDERS, day(DAY), frame((DAY, 3)), Request("r"))
    assert ask(store, "SELECT batch_date, n FROM orders") == [(DAY, 3)]


@pytest.mark.parametrize("expression", [None, "no_such_column", "NULL"])
def test_old_rows_whose_day_nobody_knows_refuse_the_write(store: DuckDBStore, expression: str | None) -> None:
    ask(store, "CREATE TABLE orders (n INTEGER)")
    ask(store, "INSERT INTO orders VALUES (1)")
    with pytest.raises(WriteRefused, match="partition_expression"):
        store.replace(replace(ORDERS, partition_expression=expression), day(DAY), frame((DAY, 3)), Request("r"))
    assert ask(store, "FROM orders") == [(1,)]


def test_a_column_that_an_index_uses_is_not_widened_but_refused(store: DuckDBStore) -> None:
    store.replace(TABLE, day(DAY), frame((DAY, 1)), Request("r"))
    big = pa.table({"batch_date": pa.array([DAY], pa.date32()), "n": pa.array([2**40], pa.int64())})
    with pytest.raises(WriteRefused, match="widened"):
        store.replace(TABLE, day(DAY), big, Request("r"))
    assert ask(store, "SELECT n FROM orders") == [(1,)]


def test_a_schema_is_created_and_commits_of_all_schemas_are_kept_together(store: DuckDBStore) -> None:
    shop = replace(ORDERS, schema="shop")
    store.replace(shop, day(DAY), frame((DAY, 1)), Request("r"))
    store.replace(replace(ORDERS, asset="other"), day(DAY), frame((DAY, 2)), Request("r"))
    assert ask(store, "SELECT n FROM shop.orders UNION ALL SELECT n FROM main.orders") == [(1,), (2,)]
    assert set(store.last_commits()) == {("orders", "2024-03-05"), ("other", "2024-03-05")}


@pytest.fixture
def shell(store: DuckDBStore) -> Iterator[int]:
    """Somebody's shell that has the file open, in another process."""
    ask(store, "SELECT 1")
    code = f"import duckdb, time; c = duckdb.connect({str(store.path)!r}); print('open', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    yield process.pid
    process.kill()
    process.wait()


def test_a_file_held_by_somebody_is_waited_for_and_then_its_holder_is_named(store: DuckDBStore, shell: int) -> None:
    with pytest.raises(StoreBusy, match=rf"PID {shell}.*waited 1 s.*retrying helps") as caught:
        store.replace(ORDERS, day(DAY), frame((DAY, 1)), Request("r"))
    assert caught.value.retryable
    with pytest.raises(StoreBusy, match=rf"PID {shell}"):
        store.last_commits()


def test_a_connection_of_dagsters_own_resource_in_the_same_process_is_no_obstacle(store: DuckDBStore) -> None:
    with DuckDBResource(database=str(store.path)).get_connection() as connection:
        store.replace(ORDERS, day(DAY), frame((DAY, 1)), Request("r"))
        assert connection.execute("SELECT n FROM orders").fetchall() == [(1,)]
        assert len(store.last_commits()) == 1


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "warehouse.duckdb").write_text("this is no database, whatever its name may say" * 100)
    with pytest.raises(WriteRefused, match=r"warehouse\.duckdb is no DuckDB"):
        DuckDBStore(tmp_path / "warehouse.duckdb").replace(ORDERS, day(DAY), frame((DAY, 1)), Request("r"))


def test_the_number_of_threads_leaves_no_trace(tmp_path: Path) -> None:
    scope = Scope.days(date(2024, 1, 1), date(2024, 1, 5))
    days = [partition.lower for partition in scope.partitions]
    data = pa.table({"batch_date": days * 20_000, "n": range(100_000)})

    def fingerprints(threads: int) -> list[str]:
        store = DuckDBStore(tmp_path / f"{threads}.duckdb", settings={"threads": threads})
        return [commit.fingerprint for commit in store.replace(ORDERS, scope, data, Request("r"))]

    assert fingerprints(1) == fingerprints(2) == fingerprints(8)
