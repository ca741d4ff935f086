"""Partitions of several dimensions, in real runs: a day and a region."""

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from etl_project.proofs.verify.targets import stored_assets
from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager, checked
from etl_project.storage.dagster.io_manager import PartitionIOManager
from etl_project.storage.dagster.scopes import UnsupportedAsset

DAYS = dg.DailyPartitionsDefinition("2024-03-01")
REGIONS = dg.StaticPartitionsDefinition(["eu", "us"])
CELLS = dg.MultiPartitionsDefinition({"date": DAYS, "region": REGIONS})


@pytest.fixture(params=["duckdb", "parquet"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> PartitionIOManager:
    if request.param == "duckdb":
        return DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"), preview_rows=3)
    return ParquetPartitionIOManager(root=str(tmp_path / "lake"), preview_rows=3)


@dg.asset(partitions_def=CELLS)
def sales(context: dg.AssetExecutionContext) -> pa.Table:
    keys = [key.keys_by_dimension for key in context.partition_keys]  # type: ignore[attr-defined]
    days = pa.array([date.fromisoformat(key["date"]) for key in keys], pa.date32())
    return pa.table({"batch_date": days, "region": [key["region"] for key in keys], "n": [1] * len(keys)})


@dg.asset(partitions_def=CELLS)
def same_cell(sales: pa.Table) -> pa.Table:
    return sales


@dg.asset(
    partitions_def=DAYS,
    ins={"sales": dg.AssetIn(partition_mapping=dg.MultiToSingleDimensionPartitionMapping("date"))},
)
def all_regions(sales: pa.Table) -> pa.Table:
    return sales


def run(manager: PartitionIOManager, assets: Any, key: Any, select: Any, instance: Any) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        assets, selection=select, resources={"io_manager": manager}, partition_key=key, instance=instance
    )


def test_cells_are_built_read_and_added_up(manager: PartitionIOManager) -> None:
    assets = [sales, same_cell, all_regions]
    with dg.DagsterInstance.ephemeral() as instance:
        for region in ("eu", "us", "us"):
            cell = dg.MultiPartitionKey({"date": "2024-03-02", "region": region})
            done = run(manager, assets, cell, [sales, same_cell], instance)
        (event,) = done.asset_materializations_for_node("sales")
        assert event.partition == "2024-03-02|us"
        assert event.tags["dagster/partition/region"] == "us" and "preview" in event.metadata
        assert run(manager, assets, "2024-03-02", [all_regions], instance).success
    commits = manager.store().last_commits()
    assert {key: commit.rows for key, commit in commits.items()} == {
        ("sales", "2024-03-02|eu"): 1,
        ("sales", "2024-03-02|us"): 1,
        ("same_cell", "2024-03-02|eu"): 1,
        ("same_cell", "2024-03-02|us"): 1,
        ("all_regions", "2024-03-02"): 2,
    }
    assert not any(commit.input_hash == "unknown" for commit in commits.values())


def test_a_cell_can_be_looked_at_in_a_notebook(manager: PartitionIOManager) -> None:
    definitions = dg.Definitions(assets=[sales], resources={"io_manager": manager})
    with dg.DagsterInstance.ephemeral() as instance:
        cell = dg.MultiPartitionKey({"date": "2024-03-02", "region": "eu"})
        assert run(manager, [sales], cell, None, instance).success
    rows = checked(definitions).load_asset_value("sales", partition_key=cell, python_type=pa.Table)
    assert rows["region"].to_pylist() == ["eu"]  # type: ignore[index]
    (target,) = stored_assets(definitions)
    assert target.owns("2024-03-02|eu") and target.table.partition_columns == ("batch_date", "region")


def test_dimensions_that_cannot_be_stored_are_refused_when_definitions_load(manager: PartitionIOManager) -> None:
    hours = dg.HourlyPartitionsDefinition("2024-03-01-00:00")

    @dg.asset(partitions_def=dg.MultiPartitionsDefinition({"hour": hours, "region": REGIONS}))
    def hourly() -> pa.Table:
        raise AssertionError("nothing runs")

    with pytest.raises(UnsupportedAsset, match="dimension 'hour' is a span of time other than a UTC day"):
        checked(dg.Definitions(assets=[hourly], resources={"io_manager": manager}))
