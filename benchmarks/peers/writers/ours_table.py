"""This project's IO manager for DuckDB, in a project of five lines."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
from common import answer, comment_in_duckdb, from_duckdb

from etl_project.storage import DuckDBPartitionIOManager

DAYS = dg.DailyPartitionsDefinition("2025-01-01")


def write(folder: Path, day: str, file: Path) -> None:
    @dg.asset(partitions_def=DAYS, metadata={"partition_expr": "batch_date"})
    def rows() -> object:
        return pq.read_table(file)

    manager = DuckDBPartitionIOManager(url=str(folder / "rows.duckdb"))
    dg.materialize(
        [rows], partition_key=day, resources={"io_manager": manager}, instance=dg.DagsterInstance.ephemeral()
    )


if __name__ == "__main__":
    answer(
        write,
        lambda folder: from_duckdb(folder / "rows.duckdb", "rows"),
        lambda folder, text: comment_in_duckdb(folder / "rows.duckdb", "rows", text),
    )
