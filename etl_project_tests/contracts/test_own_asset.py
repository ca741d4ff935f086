"""The page on tables of one's own: its code builds what it says, in SQL, pandas and polars, and again the same."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from types import ModuleType

import dagster as dg
import duckdb
import pandas as pd

from etl_project.declare import daily_table
from etl_project.storage import DuckDBPartitionIOManager
from etl_project_tests.deployments import ROOT

DAY = "2025-03-20"
NAMES = ["units_in_sql", "units_in_pandas", "units_in_polars"]
ORDERS = "CREATE TABLE orders (batch_date DATE NOT NULL, stock_code VARCHAR, quantity INTEGER);"


def test_the_page_builds_the_same_table_in_sql_pandas_and_polars(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "own-asset.md").read_text(encoding="utf-8")
    blocks = textwrap.dedent("\n".join(re.findall(r"^(?: {4}.*)?$", page, re.MULTILINE)))
    code, contract = blocks.split("CREATE TABLE")
    contract = f"CREATE TABLE{contract}"
    tables = [*(contract.replace("units_in_sql", name) for name in NAMES), ORDERS]
    (tmp_path / "contract.sql").write_text("\n".join(tables), encoding="utf-8")
    written = ModuleType("own_asset")
    written.__dict__["__file__"] = str(tmp_path / "assets.py")
    exec(compile(code, "own-asset.md", "exec"), written.__dict__)  # noqa: S102

    @daily_table(tmp_path)
    def orders() -> pd.DataFrame:
        return pd.DataFrame({"batch_date": [DAY] * 3, "stock_code": ["a", "b", "a"], "quantity": [1, 2, 3]}).assign(
            batch_date=lambda rows: pd.to_datetime(rows["batch_date"]).dt.date
        )

    assets = [orders, *(getattr(written, name) for name in NAMES)]
    file = tmp_path / "warehouse.duckdb"
    for _ in range(2):
        manager = DuckDBPartitionIOManager(url=str(file))
        assert dg.materialize(assets, partition_key=DAY, resources={"warehouse": manager}).success
        with duckdb.connect(str(file), read_only=True) as db:
            stored = [db.execute(f"SELECT stock_code, units FROM {name} ORDER BY 1").fetchall() for name in NAMES]
        assert stored == [[("a", 4), ("b", 2)]] * 3
