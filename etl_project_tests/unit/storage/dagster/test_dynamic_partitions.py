"""Dynamic partitions: keys that come while the project runs are partitions like any other."""

# No `from __future__ import annotations` here: Dagster reads annotations as they stand.

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager
from etl_project.storage.dagster.io_manager import PartitionIOManager

CUSTOMERS = dg.DynamicPartitionsDefinition(name="customers")
KEYS = ["alice", "o'hara; drop table rows", "../x", "Ärger"]

MAKERS: dict[str, Callable[[Path], PartitionIOManager]] = {
    "duckdb": lambda folder: DuckDBPartitionIOManager(url=str(folder / "w.duckdb")),
    "parquet": lambda folder: ParquetPartitionIOManager(root=str(folder / "lake")),
}


@dg.asset(partitions_def=CUSTOMERS, metadata={"partition_column": "customer"})
def rows(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return pd.DataFrame({"customer": context.partition_key, "n": [1, 2]})


@dg.asset(partitions_def=CUSTOMERS, metadata={"partition_column": "customer"})
def copies(rows: pd.DataFrame) -> pd.DataFrame:
    return rows


@dg.asset
def total(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.groupby("customer", as_index=False)["n"].sum()


@pytest.mark.parametrize("kind", MAKERS)
def test_keys_added_at_runtime_are_written_read_and_rebuilt_each_for_itself(kind: str, tmp_path: Path) -> None:
    resources = {"io_manager": MAKERS[kind](tmp_path)}
    defs = dg.Definitions(assets=[rows, copies, total], resources=resources)
    with dg.DagsterInstance.ephemeral() as instance:
        for known, key in enumerate(KEYS):
            instance.add_dynamic_partitions("customers", [key])
            for _ in range(2):
                done = dg.materialize([rows, copies], instance=instance, resources=resources, partition_key=key)
                assert done.success
                events = done.asset_materializations_for_node("copies")
                assert [event.partition for event in events] == [key]
            assert dg.materialize([total, rows], selection=[total], instance=instance, resources=resources).success
            loaded = defs.load_asset_value("total", instance=instance)
            assert dict(zip(loaded["customer"], loaded["n"], strict=True)) == dict.fromkeys(KEYS[: known + 1], 3)
        one = defs.load_asset_value("copies", instance=instance, partition_key=KEYS[1])
        assert one["customer"].tolist() == [KEYS[1]] * 2


@pytest.mark.parametrize("kind", MAKERS)
def test_a_key_that_was_removed_takes_no_rows_along(kind: str, tmp_path: Path) -> None:
    resources = {"io_manager": MAKERS[kind](tmp_path)}
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("customers", KEYS[:2])
        for key in KEYS[:2]:
            assert dg.materialize([rows], instance=instance, resources=resources, partition_key=key).success
        instance.delete_dynamic_partition("customers", KEYS[0])
        assert dg.materialize([total, rows], selection=[total], instance=instance, resources=resources).success
        loaded = dg.Definitions(assets=[rows, total], resources=resources).load_asset_value("total", instance=instance)
        assert loaded["customer"].tolist() == [KEYS[1]]
        whole = dg.Definitions(assets=[rows], resources=resources).load_asset_value("rows", instance=instance)
        assert set(whole["customer"]) == set(KEYS[:2]), "outside of a run: all that is committed"
