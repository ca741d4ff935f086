"""Types that Parquet does not have are refused by the column's name, wherever the rows come from."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from etl_project.storage.contract import Request, Scope, Sql, Table, WriteRefused
from etl_project.storage.lake.store import ParquetStore

DAY = date(2024, 1, 1)
TABLE = Table("orders", "orders")


@pytest.mark.parametrize("later", [False, True], ids=["at first", "as a column that comes later"])
@pytest.mark.parametrize(
    "value", ["INTERVAL 1 MONTH", "[INTERVAL 1 DAY]", "{'a': INTERVAL 1 DAY}", "union_value(num := 2)"]
)
def test_a_query_with_a_type_that_parquet_does_not_have_is_refused_twice(
    tmp_path: Path, value: str, later: bool
) -> None:
    store = ParquetStore(tmp_path / "lake")
    if later:
        store.replace(TABLE, Scope.days(DAY, DAY), Sql("SELECT DATE '2024-01-01' AS batch_date, 1 AS n"), Request("a"))
    for _ in range(2):
        with pytest.raises(WriteRefused, match=r"Parquet has no such type: column 'v' is .*does not help"):
            query = f"SELECT DATE '2024-01-01' AS batch_date, 1 AS n, {value} AS v"
            store.replace(TABLE, Scope.days(DAY, DAY), Sql(query), Request("a run"))
    assert len(list(store.heads(["orders"]))) == int(later)


def test_an_arrow_interval_of_months_is_refused_too(tmp_path: Path) -> None:
    rows = pa.table({"batch_date": pa.array([DAY]), "v": pa.array([(1, 2, 3000)], pa.month_day_nano_interval())})
    with pytest.raises(WriteRefused, match="column 'v' is INTERVAL"):
        ParquetStore(tmp_path / "lake").replace(TABLE, Scope.days(DAY, DAY), rows, Request("a run"))
