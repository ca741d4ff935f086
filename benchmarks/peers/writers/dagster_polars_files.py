"""dagster-polars: its IO manager for Parquet files, one a partition, as its page says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from common import answer
from dagster_polars import PolarsParquetIOManager

DAYS = dg.DailyPartitionsDefinition("2025-01-01")


def asset(file: Path | None = None) -> dg.AssetsDefinition:
    @dg.asset(partitions_def=DAYS)
    def rows() -> pl.DataFrame:
        return pl.read_parquet(file)

    return rows


def manager(folder: Path) -> PolarsParquetIOManager:
    return PolarsParquetIOManager(base_dir=str(folder / "files"))


def write(folder: Path, day: str, file: Path) -> None:
    instance = dg.DagsterInstance.ephemeral()
    dg.materialize([asset(file)], partition_key=day, resources={"io_manager": manager(folder)}, instance=instance)


def read(folder: Path) -> Iterable[dict[str, Any]]:
    files = sorted((folder / "files").rglob("*.parquet"))
    return pl.concat(map(pl.read_parquet, files), how="diagonal").to_dicts() if files else []


def load(folder: Path, day: str) -> pl.DataFrame:
    definitions = dg.Definitions([asset()], resources={"io_manager": manager(folder)})
    return definitions.load_asset_value("rows", partition_key=day, python_type=pl.DataFrame).to_pandas()


if __name__ == "__main__":
    answer(write, read, lambda folder, text: None, load)
