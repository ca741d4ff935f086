"""dagster-iceberg: its IO manager for pandas, as its page on partitioned assets says."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pandas as pd
from common import answer
from common_dagster import load_asset, run_asset
from dagster_iceberg.config import IcebergCatalogConfig
from dagster_iceberg.io_manager.pandas import PandasIcebergIOManager
from iceberg import catalog, comment, constrain, read

DAYS = dg.DailyPartitionsDefinition("2025-01-01")


def asset(file: Path | None = None) -> dg.AssetsDefinition:
    @dg.asset(partitions_def=DAYS, metadata={"partition_expr": "batch_date"})
    def rows() -> pd.DataFrame:
        return pd.read_parquet(file)

    return rows


def manager(folder: Path) -> PandasIcebergIOManager:
    catalog(folder)  # makes the namespace, which the IO manager wants to find
    properties = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}
    return PandasIcebergIOManager(
        name="peers", config=IcebergCatalogConfig(properties=properties), namespace="main", db_io_manager="custom"
    )


def write(folder: Path, day: str, file: Path) -> None:
    run_asset(asset(file), manager(folder), day)


if __name__ == "__main__":
    answer(write, read, comment, lambda folder, day: load_asset(asset(), manager(folder), day), constrain=constrain)
