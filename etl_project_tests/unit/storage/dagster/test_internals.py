"""Every name of Dagster that is not public, tried: a version that renames one fails here, and not in somebody's run."""

import ast
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from dagster._core.execution.plan import execute_step

import etl_project.storage
from etl_project.storage import DuckDBPartitionIOManager
from etl_project.storage.dagster import internals, lineage

DAILY = dg.DailyPartitionsDefinition("2024-03-01")
KEYS = ["2024-03-01", "2024-03-02", "2024-03-03"]
RANGE = {"dagster/asset_partition_range_start": KEYS[0], "dagster/asset_partition_range_end": KEYS[-1]}


def range_run(tmp_path: Path, **output: Any) -> list[dg.AssetMaterialization]:
    """The events of one run over three days, of an asset whose body returns an Output."""

    @dg.asset(partitions_def=DAILY)
    def parent() -> pa.Table:
        return pa.table({"batch_date": [date.fromisoformat(key) for key in KEYS]})

    @dg.asset(partitions_def=DAILY, deps=[parent], code_version="7", backfill_policy=dg.BackfillPolicy.single_run())
    def child() -> dg.Output[pa.Table]:
        return dg.Output(pa.table({"batch_date": [date.fromisoformat(key) for key in KEYS]}), **output)

    io_manager = DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))
    done = dg.materialize([parent, child], resources={"io_manager": io_manager}, tags=RANGE)
    events = list(done.asset_materializations_for_node("child"))
    assert [event.partition for event in events] == KEYS
    return events


def test_only_one_module_of_the_storage_layer_uses_names_that_are_not_public() -> None:
    folder = Path(str(etl_project.storage.__file__)).parent
    using = {
        path.name
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("dagster._")
    }
    assert using == {"internals.py"}


def test_events_of_a_range_are_made_by_dagster_itself_with_what_they_were_made_from(tmp_path: Path) -> None:
    for event in range_run(tmp_path):
        assert event.tags["dagster/code_version"] == "7"
        assert "dagster/input_data_version/parent" in event.tags


def test_tags_metadata_and_data_version_of_the_bodys_output_are_kept_in_a_range_run(tmp_path: Path) -> None:
    for event in range_run(tmp_path, tags={"team": "x"}, metadata={"m": 1}, data_version=dg.DataVersion("mine")):
        assert (event.tags["team"], event.tags["dagster/data_version"], event.metadata["m"].value) == ("x", "mine", 1)


def test_materialize_result_keeps_its_tags_in_a_range_run(tmp_path: Path) -> None:
    @dg.asset(partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())
    def rows() -> dg.MaterializeResult[pa.Table]:
        table = pa.table({"batch_date": [date.fromisoformat(key) for key in KEYS]})
        return dg.MaterializeResult(value=table, tags={"team": "x"}, metadata={"m": 1})

    io_manager = DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))
    done = dg.materialize([rows], resources={"io_manager": io_manager}, tags=RANGE)
    events = done.asset_materializations_for_node("rows")
    assert [(e.partition, e.tags["team"], e.metadata["m"].value) for e in events] == [(key, "x", 1) for key in KEYS]


@pytest.mark.parametrize("loss", ["gone", "wants more"])
def test_without_dagsters_function_the_events_are_made_by_public_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    """Events alone; the run's own use of the function is left as it is."""
    monkeypatch.setattr(internals, "execute_step", _Renamed() if loss == "gone" else _WantsMore())
    events = range_run(tmp_path, tags={"team": "x"}, metadata={"m": 1})
    assert len({event.metadata["fingerprint"].value for event in events}) == 3
    for event in events:
        assert event.tags["dagster/data_version"] == event.metadata["fingerprint"].value
        assert (event.tags["team"], event.metadata["m"].value) == ("x", 1)


class _Renamed:
    """A version of Dagster without the function."""


class _WantsMore:
    """A version of Dagster whose function takes something that is not known here."""

    @staticmethod
    def _get_output_asset_events(asset_key: Any, something_new: Any) -> None:
        raise AssertionError("called without what it wants")


def test_dagsters_function_wants_nothing_that_is_not_known(tmp_path: Path) -> None:
    """With the installed version the way by public means is not taken."""
    wanted = set(execute_step._get_output_asset_events.__annotations__) - {"return"}
    assert wanted <= {
        "asset_key",
        "asset_partitions",
        "output",
        "output_def",
        "io_manager_metadata",
        "step_context",
        "execution_type",
    }


def test_dagster_makes_no_second_event_for_a_range(tmp_path: Path) -> None:
    assert len(range_run(tmp_path)) == len(KEYS)


def test_a_step_is_none_outside_of_a_run_and_partitions_are_known_where_they_are_defined() -> None:
    context = dg.build_output_context(asset_key="x")
    assert internals.step_of(context) is None and internals.partitions_of(context) is None
    into = dg.build_input_context(asset_key="x", asset_partitions_def=DAILY)
    assert internals.partitions_of(into) == DAILY


def test_mappings_lead_to_the_partitions_upstream() -> None:
    weekly = dg.WeeklyPartitionsDefinition("2024-03-03")
    mapping = internals.mapping_between(None, dg.AssetKey("x"), weekly, DAILY)
    with internals.partitions_of_instance(None):
        assert len(lineage.through(mapping, "2024-03-03", weekly, DAILY)) == 7


def test_what_the_body_returned_is_known_only_while_it_is_stored() -> None:
    assert internals.returned_output() is None
