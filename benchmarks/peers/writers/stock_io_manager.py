"""Dagster's own IO manager for DuckDB and pandas, as its page on partitioned assets says."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pandas as pd
from common import answer, comment_in_duckdb, from_duckdb
from dagster_duckdb_pandas import DuckDBPandasIOManager

DAYS = dg.DailyPartitionsDefinition("2025-01-01")


def write(folder: Path, day: str, file: Path) -> None:
    @dg.asset(partitions_def=DAYS, metadata={"partition_expr": "batch_date"})
    def rows() -> pd.DataFrame:
        return pd.read_parquet(file)

    manager = DuckDBPandasIOManager(database=str(folder / "rows.duckdb"), schema="main")
    dg.materialize(
        [rows], partition_key=day, resources={"io_manager": manager}, instance=dg.DagsterInstance.ephemeral()
    )


if __name__ == "__main__":
    answer(
        write,
        lambda folder: from_duckdb(folder / "rows.duckdb", "main.rows"),
        lambda folder, text: comment_in_duckdb(folder / "rows.duckdb", "main.rows", text),
    )
