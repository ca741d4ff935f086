"""A toy engine, written from nothing but docs/add-a-backend.md: an attached database with a schema of its own.

The four methods of the page are all that it has. The promises are then kept by what is there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from etl_project.proofs.verify.findings import Asked, DaySpan
from etl_project.proofs.verify.targets import Stored
from etl_project.storage.contract import PartlyCommitted, Request, Scope, Table, WriteRefused
from etl_project.storage.sql import text
from etl_project.storage.tables.engine import Conflict, Engine
from etl_project.storage.tables.store import TableStore
from etl_project.storage.tables.transactions import unavailable

ONE, TWO = date(2024, 1, 1), date(2024, 1, 2)
KEYED = Table(
    "orders",
    "orders",
    contract_sql="CREATE TABLE orders (batch_date DATE, n INTEGER, PRIMARY KEY (batch_date, n)); "
    "COMMENT ON TABLE orders IS 'kept'",
)


class Toy(Engine):
    """Tables in a database that is attached to one in memory, in the schema `toys`."""

    name = "toy"
    schema = "toys"

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def identity(self) -> str:
        return f"toy:{self._path}"

    @contextmanager
    def writing(self, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"ATTACH {text(str(self._path))} AS box")
            connection.execute("USE box")
            connection.execute("CREATE SCHEMA IF NOT EXISTS toys")
            yield connection
            with suppress(duckdb.Error):
                connection.execute("USE memory")

    @contextmanager
    def looking(self, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection | None]:
        if not self._path.exists():
            yield None
            return
        with self.writing(wait_seconds) as connection:
            yield connection

    def meaning(self, error: Exception) -> Exception:
        if isinstance(error, duckdb.TransactionException):
            return Conflict(str(error))
        if isinstance(error, duckdb.ProgrammingError | duckdb.DataError | duckdb.IntegrityError):
            return WriteRefused(f"{self.identity}: {error}. Retrying does not help.")
        return unavailable(self.identity, error)


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(Toy(tmp_path / "box.duckdb"), wait_seconds=1)


def frame(*rows: tuple[date, int]) -> pd.DataFrame:
    days = pa.array([day for day, _ in rows], pa.date32())
    return pa.table({"n": pa.array([n for _, n in rows], pa.int32()), "batch_date": days}).to_pandas(
        types_mapper=pd.ArrowDtype
    )


def rows(store: TableStore, *days: date, table: Table = KEYED) -> list[tuple[Any, ...]]:
    found = store.arrow(store.read(table, Scope.days(days[0], days[-1]), ["batch_date", "n"]))
    return sorted(tuple(row.values()) for row in found.to_pylist())


@pytest.mark.parametrize("times", [1, 2])
def test_a_day_is_replaced_by_name_and_its_commit_is_recorded(store: TableStore, times: int) -> None:
    for _ in range(times):
        store.replace(KEYED, Scope.days(ONE, TWO), frame((ONE, 1), (ONE, 2), (TWO, 3)), Request("a run"))
        store.replace(KEYED, Scope.days(ONE, ONE), frame((ONE, 5)), Request("another run"))
    assert rows(store, ONE, TWO) == [(ONE, 5), (TWO, 3)]
    heads = {(asset, key): head.rows for asset, key, head in store.heads(["orders"])}
    assert heads == {("orders", str(ONE)): 1, ("orders", str(TWO)): 1}
    assert len(store.history("orders", str(ONE))) == 2 * times


def test_its_table_lies_in_its_own_schema_with_contract_and_comment(store: TableStore) -> None:
    store.replace(KEYED, Scope.days(ONE, ONE), frame((ONE, 1)), Request("a run"))
    with store.connect() as connection:
        query = "SELECT schema_name, comment FROM duckdb_tables() WHERE table_name = 'orders'"
        assert connection.execute(query).fetchall() == [("toys", "kept")]
    assert store.key(KEYED) == ["batch_date", "n"]


def test_rows_of_another_day_change_nothing(store: TableStore) -> None:
    store.replace(KEYED, Scope.days(ONE, ONE), frame((ONE, 1)), Request("a run"))
    with pytest.raises(WriteRefused, match="lie outside"):
        store.replace(KEYED, Scope.days(ONE, ONE), frame((ONE, 2), (TWO, 3)), Request("a run"))
    assert rows(store, ONE) == [(ONE, 1)]


def test_of_a_range_with_a_broken_day_the_good_day_is_committed(store: TableStore) -> None:
    with pytest.raises(PartlyCommitted) as caught:
        store.replace(KEYED, Scope.days(ONE, TWO), frame((ONE, 1), (TWO, 3), (TWO, 3)), Request("a run"))
    assert set(caught.value.failures) == {str(TWO)} and rows(store, ONE, TWO) == [(ONE, 1)]


def test_a_row_that_somebody_edits_is_found(store: TableStore) -> None:
    store.replace(KEYED, Scope.days(ONE, TWO), frame((ONE, 1), (TWO, 3)), Request("a run"))
    with store.connect() as connection:
        connection.execute("UPDATE toys.orders SET n = 9 WHERE n = 3")
    from etl_project.declare.daily_table import daily  # noqa: PLC0415

    target = Stored("orders", KEYED, daily(ONE), store)
    found = store.examine(KEYED, Asked(target, DaySpan())).findings
    assert [(one.kind, one.partition) for one in found] == [("edited", str(TWO))]
