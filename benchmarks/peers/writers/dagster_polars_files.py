"""dagster-polars: its IO manager for Parquet files, one a partition, as its page says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
from common import answer
from common_dagster import asset, load_asset, run_asset
from dagster_polars import PolarsParquetIOManager


def manager(folder: Path) -> PolarsParquetIOManager:
    return PolarsParquetIOManager(base_dir=str(folder / "files"))


def write(folder: Path, day: str, file: Path) -> None:
    run_asset(asset(pl.read_parquet, file, pl.DataFrame), manager(folder), day)


def whole(folder: Path, first: str, last: str, file: Path) -> None:
    """By polars itself, a file a day: the IO manager writes one day a run."""
    (folder / "files" / "rows").mkdir(parents=True, exist_ok=True)
    for rows in pl.read_parquet(file).partition_by("batch_date"):
        rows.write_parquet(folder / "files" / "rows" / f"{rows['batch_date'][0]}.parquet")


def read(folder: Path) -> Iterable[dict[str, Any]]:
    files = sorted((folder / "files").rglob("*.parquet"))
    return pl.concat(map(pl.read_parquet, files), how="diagonal").to_dicts() if files else []


def load(folder: Path, day: str) -> pl.DataFrame:
    return load_asset(asset(pl.read_parquet, kind=pl.DataFrame), manager(folder), day, pl.DataFrame).to_pandas()


if __name__ == "__main__":
    answer(write, read, lambda folder, text: None, load, whole)
