"""Reading and writing where no run is: a notebook, a test, a sensor; and ops that hand on what is no asset."""

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager
from etl_project.storage.contract import UNKNOWN, InputMissing, ReadRefused, WriteRefused
from etl_project.storage.dagster.io_manager import PartitionIOManager

DAILY = dg.DailyPartitionsDefinition("2024-03-01")
REGIONS = dg.StaticPartitionsDefinition(["eu", "us"])
KEYS = ["2024-03-01", "2024-03-02"]


@pytest.fixture(params=["duckdb", "parquet"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> PartitionIOManager:
    if request.param == "duckdb":
        return DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))
    return ParquetPartitionIOManager(root=str(tmp_path / "lake"))


@dg.asset(partitions_def=DAILY)
def orders(context: dg.AssetExecutionContext) -> pa.Table:
    day = date.fromisoformat(context.partition_key)
    return pa.table({"batch_date": pa.array([day], pa.date32()), "n": [day.day]})


@dg.asset(key_prefix="shop", partitions_def=REGIONS, metadata={"partition_column": "region"})
def sales(context: dg.AssetExecutionContext) -> pa.Table:
    return pa.table({"region": [context.partition_key], "n": [1]})


@dg.asset
def countries() -> pa.Table:
    return pa.table({"name": ["a", "b"]})


@pytest.fixture
def definitions(manager: PartitionIOManager) -> dg.Definitions:
    resources: dict[str, Any] = {"io_manager": manager}
    instance = dg.DagsterInstance.ephemeral()
    for key in KEYS:
        assert dg.materialize([orders], resources=resources, instance=instance, partition_key=key).success
    assert dg.materialize([sales], resources=resources, instance=instance, partition_key="eu").success
    assert dg.materialize([countries], resources=resources, instance=instance).success
    return dg.Definitions(assets=[orders, sales, countries], resources=resources)


def test_an_asset_can_be_looked_at_in_a_notebook(definitions: dg.Definitions) -> None:
    day = definitions.load_asset_value("orders", partition_key=KEYS[1])
    assert isinstance(day, pd.DataFrame) and day["n"].tolist() == [2]
    assert definitions.load_asset_value(["shop", "sales"], partition_key="eu")["n"].tolist() == [1]
    assert definitions.load_asset_value("countries")["name"].tolist() == ["a", "b"]


def test_a_partitioned_asset_without_a_partition_is_all_that_is_committed(definitions: dg.Definitions) -> None:
    found = definitions.load_asset_value("orders", python_type=pa.Table)
    assert sorted(found["n"].to_pylist()) == [1, 2]  # type: ignore[attr-defined]
    assert len(definitions.load_asset_value(["shop", "sales"])) == 1  # type: ignore[arg-type]


def test_a_loader_reads_one_partition_after_the_other(definitions: dg.Definitions) -> None:
    with definitions.get_asset_value_loader() as loader:
        for key, n in zip(KEYS, (1, 2), strict=True):
            rows = loader.load_asset_value("orders", partition_key=key, python_type=pa.Table)
            assert rows["n"].to_pylist() == [n]  # type: ignore[index]
        both = dg.PartitionKeyRange(*KEYS)
        assert len(loader.load_asset_value("orders", partition_key_range=both, python_type=pa.Table)) == 2  # type: ignore[arg-type]


def test_what_was_never_committed_is_named_without_a_run_as_well(definitions: dg.Definitions) -> None:
    with pytest.raises(InputMissing, match=r"never committed for 2024-03-03"):
        definitions.load_asset_value("orders", partition_key="2024-03-03")


@pytest.mark.parametrize("key", ["2024-03-05", "eu"])
def test_contexts_that_are_built_by_hand_write_and_read(manager: PartitionIOManager, key: str) -> None:
    value = date(2024, 3, 5) if key != "eu" else key
    for n in (1, 2, 2):
        out = dg.build_output_context(asset_key="built", partition_key=key)
        manager.handle_output(out, pa.table({"batch_date": [value], "n": [n]}))
        into = dg.build_input_context(asset_key="built", partition_key=key, upstream_output=out)
        assert manager.load_input(into)["n"].tolist() == [n]
    record = manager.store().last_commits()["built", key]
    assert (record.run_id, record.input_hash, record.rows) == ("outside a run", UNKNOWN, 1)


def test_a_refused_write_outside_a_run_is_the_refusal_itself(manager: PartitionIOManager) -> None:
    with pytest.raises(WriteRefused, match="rows lie outside"):
        out = dg.build_output_context(asset_key="built", partition_key="2024-03-05")
        manager.handle_output(out, pa.table({"batch_date": [date(2024, 3, 6)]}))


@pytest.mark.parametrize("columns", ["n", [], [1]])
def test_columns_that_are_no_list_of_names_are_refused(definitions: dg.Definitions, columns: Any) -> None:
    with definitions.get_asset_value_loader() as loader, pytest.raises(ReadRefused, match="not a list of names"):
        loader.load_asset_value("countries", input_definition_metadata={"columns": columns})


@dg.op
def numbers() -> list[int]:
    return [1, 2]


@dg.op
def as_rows(values: list[int]) -> pa.Table:
    return pa.table({"n": values})


def test_ops_hand_on_values_that_are_no_asset(manager: PartitionIOManager) -> None:
    @dg.job(resource_defs={"io_manager": manager})  # type: ignore[dict-item]
    def two_ops() -> None:
        as_rows(numbers())

    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            assert two_ops.execute_in_process(instance=instance).success
    assert manager.store().last_commits() == {}


def test_dynamic_outputs_are_handed_on_one_by_one(manager: PartitionIOManager) -> None:
    @dg.op(out=dg.DynamicOut())
    def each() -> Any:
        for n in (1, 2):
            yield dg.DynamicOutput([n], mapping_key=str(n))

    @dg.op
    def total(tables: list[pa.Table]) -> int:
        return sum(table["n"].to_pylist()[0] for table in tables)

    @dg.job(resource_defs={"io_manager": manager})  # type: ignore[dict-item]
    def fan_out() -> None:
        total(each().map(as_rows).collect())

    with dg.DagsterInstance.ephemeral() as instance:
        result = fan_out.execute_in_process(instance=instance)
        assert result.output_for_node("total") == 3


def test_a_graph_asset_stores_what_its_last_op_returns(manager: PartitionIOManager) -> None:
    @dg.graph_asset
    def graph() -> pa.Table:
        return as_rows(numbers())

    for _ in range(2):
        assert dg.materialize([graph], resources={"io_manager": manager}).success
    assert manager.store().last_commits()["graph", None].rows == 2


def test_a_stream_that_no_file_can_hold_names_the_way_out(manager: PartitionIOManager) -> None:
    @dg.op
    def stream() -> pa.RecordBatchReader:
        return pa.table({"n": [1]}).to_reader()

    @dg.op
    def nothing(rows: pa.RecordBatchReader) -> None:
        """Never runs."""

    @dg.job(resource_defs={"io_manager": manager})  # type: ignore[dict-item]
    def handing_on() -> None:
        nothing(stream())

    with dg.DagsterInstance.ephemeral() as instance:
        result = handing_on.execute_in_process(instance=instance, raise_on_error=False)
    (failed,) = result.get_step_failure_events()
    assert "io_manager_key" in str(failed.step_failure_data.user_failure_data)
