"""Asset checks that take the asset as an input: the partitions of the run, not all there will ever be."""

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager
from etl_project.storage.dagster.io_manager import PartitionIOManager

DAILY = dg.DailyPartitionsDefinition("2024-03-01")
KEYS = ["2024-03-01", "2024-03-02", "2024-03-03"]
SEEN: list[list[int]] = []


@dg.asset(partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())
def orders(context: dg.AssetExecutionContext) -> pa.Table:
    days = [date.fromisoformat(key) for key in context.partition_keys]
    return pa.table({"batch_date": pa.array(days, pa.date32()), "n": [day.day for day in days]})


@dg.asset_check(asset=orders)
def looked_at(orders: pa.Table) -> dg.AssetCheckResult:
    SEEN.append(sorted(orders["n"].to_pylist()))
    return dg.AssetCheckResult(passed=True)


@pytest.mark.parametrize("backend", ["duckdb", "parquet"])
def test_a_check_looks_at_the_partitions_of_its_run_and_without_any_at_what_is_committed(
    backend: str, tmp_path: Path
) -> None:
    manager: PartitionIOManager = (
        DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))
        if backend == "duckdb"
        else ParquetPartitionIOManager(root=str(tmp_path / "lake"))
    )
    SEEN.clear()

    def run(**options: Any) -> None:
        assert dg.materialize([orders, looked_at], resources={"io_manager": manager}, **options).success

    run(partition_key=KEYS[0])
    run(tags={"dagster/asset_partition_range_start": KEYS[1], "dagster/asset_partition_range_end": KEYS[2]})
    run(selection=dg.AssetSelection.checks_for_assets(orders))
    assert SEEN == [[1], [2, 3], [1, 2, 3]]
