"""Dagster's own IO manager for DuckDB and pandas, as its page on partitioned assets says."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from common import answer, comment_in_duckdb, from_duckdb, not_null_in_duckdb
from common_dagster import asset, load_asset, run_asset, run_range
from dagster_duckdb_pandas import DuckDBPandasIOManager


def manager(folder: Path) -> DuckDBPandasIOManager:
    return DuckDBPandasIOManager(database=str(folder / "rows.duckdb"), schema="main")


def write(folder: Path, day: str, file: Path) -> None:
    run_asset(asset(pd.read_parquet, file), manager(folder), day)


def whole(folder: Path, first: str, last: str, file: Path) -> None:
    run_range(asset(pd.read_parquet, file), manager(folder), first, last)


if __name__ == "__main__":
    answer(
        write,
        lambda folder: from_duckdb(folder / "rows.duckdb", "main.rows"),
        lambda folder, text: comment_in_duckdb(folder / "rows.duckdb", "main.rows", text),
        lambda folder, day: load_asset(asset(pd.read_parquet), manager(folder), day),
        whole,
        lambda folder: not_null_in_duckdb(folder / "rows.duckdb", "main.rows"),
    )
