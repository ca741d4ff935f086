"""A file of the lake that cannot be read is no partition that is absent: whoever may do without one is told of it."""

# No `from __future__ import annotations` here: Dagster reads annotations as they stand.

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from etl_project.storage import ParquetPartitionIOManager
from etl_project.storage.contract import InputMissing

DAILY = dg.DailyPartitionsDefinition("2024-03-01", end_date="2024-03-04")
KEYS = ["2024-03-01", "2024-03-02"]


@dg.asset(partitions_def=DAILY)
def orders(context: dg.AssetExecutionContext) -> pa.Table:
    day = date.fromisoformat(context.partition_key)
    return pa.table({"batch_date": pa.array([day], pa.date32()), "n": [day.day]})


ALL_OF_THEM = dg.AssetIn("orders", partition_mapping=dg.AllPartitionMapping())


@dg.asset(ins={"rows": ALL_OF_THEM})
def total(rows: pa.Table) -> pa.Table:
    return pa.table({"n": [sum(rows["n"].to_pylist())]})


@pytest.fixture
def resources(tmp_path: Path) -> dict[str, Any]:
    """Two days are there, the second one is damaged, a third one was never built."""
    made: dict[str, Any] = {"io_manager": ParquetPartitionIOManager(root=str(tmp_path / "lake"))}
    for key in KEYS:
        assert dg.materialize([orders], resources=made, partition_key=key).success
    file = tmp_path / "lake" / "orders" / f"batch_date={KEYS[1]}" / "data.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    return made


def test_an_asset_that_reads_all_partitions_does_not_go_on_without_a_damaged_one(resources: dict[str, Any]) -> None:
    done = dg.materialize([orders.to_source_asset(), total], resources=resources, raise_on_error=False)
    assert not done.success
    [failure] = done.get_step_failure_events()
    said = str(failure.step_failure_data.user_failure_data) + str(failure.step_failure_data.error)
    assert f"{KEYS[1]} (" in said and "data.parquet" in said and "damaged" in said
    for _ in range(2):
        assert dg.materialize([orders], resources=resources, partition_key=KEYS[1]).success
        assert dg.materialize([orders.to_source_asset(), total], resources=resources).success
    assert resources["io_manager"].store().last_commits()["total", None].rows == 1


def test_neither_does_who_looks_at_all_that_is_committed(resources: dict[str, Any]) -> None:
    definitions = dg.Definitions(assets=[orders], resources=resources)
    with pytest.raises(InputMissing, match=rf"{KEYS[1]} \(.*data\.parquet\).*damaged"):
        definitions.load_asset_value("orders", python_type=pa.Table)
    with pytest.raises(InputMissing, match="damaged"):
        definitions.load_asset_value("orders", partition_key=KEYS[1])


def test_a_damaged_file_is_not_none_either(tmp_path: Path) -> None:
    manager = ParquetPartitionIOManager(root=str(tmp_path / "lake"))
    out = dg.build_output_context(asset_key="countries")
    manager.handle_output(out, pa.table({"n": [1]}))
    (tmp_path / "lake" / "countries" / "data.parquet").write_bytes(b"")
    wanted = dg.DagsterType(lambda _, __: True, name="RowsOrNone", typing_type=pa.Table | None)
    into = dg.build_input_context(asset_key="countries", upstream_output=out, dagster_type=wanted)
    with pytest.raises(InputMissing, match=r"all of it \(.*damaged"):
        manager.load_input(into)
