"""dagster-deltalake: its IO manager for pandas, as its page on partitioned assets says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from common import answer
from common_dagster import asset, load_asset, run_asset
from dagster_deltalake import LocalConfig
from dagster_deltalake_pandas import DeltaLakePandasIOManager
from deltalake import DeltaTable, write_deltalake


def manager(folder: Path) -> DeltaLakePandasIOManager:
    return DeltaLakePandasIOManager(root_uri=str(folder / "lake"), storage_options=LocalConfig(), schema="main")


def write(folder: Path, day: str, file: Path) -> None:
    run_asset(asset(pd.read_parquet, file), manager(folder), day)


def whole(folder: Path, first: str, last: str, file: Path) -> None:
    """By delta-rs itself, which the IO manager writes with: it writes one day a run."""
    write_deltalake(table(folder), pq.read_table(file), mode="append", partition_by=["batch_date"])


def table(folder: Path) -> str:
    return str(folder / "lake" / "main" / "rows")


def read(folder: Path) -> Iterable[dict[str, Any]]:
    if not DeltaTable.is_deltatable(table(folder)):
        return []
    return DeltaTable(table(folder)).to_pyarrow_table().to_pylist()


def comment(folder: Path, text: str | None) -> str | None:
    if text is not None:
        DeltaTable(table(folder)).alter.set_table_description(text)
    return DeltaTable(table(folder)).metadata().description


def constrain(folder: Path) -> None:
    DeltaTable(table(folder)).alter.add_constraint({"has_amount": "amount IS NOT NULL"})


if __name__ == "__main__":
    answer(
        write,
        read,
        comment,
        lambda folder, day: load_asset(asset(pd.read_parquet), manager(folder), day),
        whole,
        constrain,
    )
