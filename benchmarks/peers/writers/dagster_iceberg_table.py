"""dagster-iceberg: its IO manager for pandas, as its page on partitioned assets says."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from common import answer
from common_dagster import asset, load_asset, run_asset
from dagster_iceberg.config import IcebergCatalogConfig
from dagster_iceberg.io_manager.pandas import PandasIcebergIOManager
from iceberg import catalog, comment, constrain, read


def manager(folder: Path) -> PandasIcebergIOManager:
    catalog(folder)  # makes the namespace, which the IO manager wants to find
    properties = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}
    return PandasIcebergIOManager(
        name="peers", config=IcebergCatalogConfig(properties=properties), namespace="main", db_io_manager="custom"
    )


def write(folder: Path, day: str, file: Path) -> None:
    run_asset(asset(pd.read_parquet, file), manager(folder), day)


def whole(folder: Path, first: str, last: str, file: Path) -> None:
    """By pyiceberg itself, into the table that the first day made: the IO manager writes one day a run."""
    catalog(folder).load_table("main.rows").append(pq.read_table(file))


if __name__ == "__main__":
    answer(
        write,
        read,
        comment,
        lambda folder, day: load_asset(asset(pd.read_parquet), manager(folder), day),
        whole,
        constrain,
    )
