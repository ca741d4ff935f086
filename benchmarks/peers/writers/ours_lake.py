"""This project's IO manager for Parquet files, in a project of five lines."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from common import answer
from common_dagster import asset, load_asset, run_asset, run_range

from etl_project.storage import ParquetPartitionIOManager


def manager(folder: Path) -> ParquetPartitionIOManager:
    return ParquetPartitionIOManager(root=str(folder / "lake"))


def write(folder: Path, day: str, file: Path) -> None:
    run_asset(asset(pq.read_table, file, pa.Table), manager(folder), day)


def read(folder: Path) -> Iterable[dict[str, Any]]:
    if not list((folder / "lake").rglob("*.parquet")):
        return []
    found = duckdb.sql(f"FROM read_parquet('{folder}/lake/**/*.parquet', hive_partitioning=false, union_by_name=true)")
    return [dict(zip(found.columns, row, strict=True)) for row in found.order("ALL").fetchall()]


def whole(folder: Path, first: str, last: str, file: Path) -> None:
    run_range(asset(pq.read_table, file, pa.Table), manager(folder), first, last)


if __name__ == "__main__":
    answer(
        write,
        read,
        lambda folder, text: None,
        lambda folder, day: load_asset(asset(pq.read_table), manager(folder), day),
        whole,
    )
