"""This project's IO manager for DuckDB, in a project of five lines."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from common import answer, comment_in_duckdb, from_duckdb, not_null_in_duckdb
from common_dagster import asset, load_asset, run_asset, run_range

from etl_project.storage import DuckDBPartitionIOManager


def manager(folder: Path) -> DuckDBPartitionIOManager:
    return DuckDBPartitionIOManager(url=str(folder / "rows.duckdb"))


def write(folder: Path, day: str, file: Path) -> None:
    run_asset(asset(pq.read_table, file, pa.Table), manager(folder), day)


def whole(folder: Path, first: str, last: str, file: Path) -> None:
    run_range(asset(pq.read_table, file, pa.Table), manager(folder), first, last)


if __name__ == "__main__":
    answer(
        write,
        lambda folder: from_duckdb(folder / "rows.duckdb", "rows"),
        lambda folder, text: comment_in_duckdb(folder / "rows.duckdb", "rows", text),
        lambda folder, day: load_asset(asset(pq.read_table), manager(folder), day),
        whole,
        lambda folder: not_null_in_duckdb(folder / "rows.duckdb", "rows"),
    )
