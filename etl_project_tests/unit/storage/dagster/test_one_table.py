"""Two assets with one table: refused when definitions load, or before a body runs, or before a row is lost."""

# No `from __future__ import annotations` here: Dagster reads annotations as they stand.

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository

from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager
from etl_project.storage.dagster import internals
from etl_project.storage.dagster.scopes import UnsupportedAsset

BODIES: list[str] = []


def asset(name: str, metadata: dict[str, Any] | None = None, *prefix: str, **options: Any) -> dg.AssetsDefinition:
    @dg.asset(name=name, key_prefix=list(prefix) or None, metadata=metadata, **options)
    def body() -> pd.DataFrame:
        BODIES.append(name)
        return pd.DataFrame({"n": [1]})

    return body


def definitions(folder: Path, **options: Any) -> dg.Definitions:
    assets = [asset("orders"), asset("old_orders", {"table": "Orders"}, **options), asset("free")]
    manager = DuckDBPartitionIOManager(url=str(folder / "w.duckdb"))
    everything = dg.define_asset_job("all_of_them")
    one = dg.define_asset_job("one", selection=["orders"])
    free = dg.define_asset_job("free_alone", selection=["free"])
    resources = {"io_manager": manager, "other": DuckDBPartitionIOManager(url=str(folder / "other.duckdb"))}
    return dg.Definitions(
        assets=assets, resources=resources, jobs=[everything, one, free], executor=dg.in_process_executor
    )


@pytest.fixture(autouse=True)
def no_body() -> None:
    BODIES.clear()


@pytest.fixture
def not_told_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a version of Dagster that does not say, when it loads definitions, what is defined."""
    monkeypatch.setattr(internals, "definitions_being_loaded", lambda: None)


def test_definitions_with_two_assets_on_one_table_do_not_load(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedAsset, match="The assets 'old_orders', 'orders' have one table"):
        definitions(tmp_path).get_repository_def()
    with pytest.raises(UnsupportedAsset, match="have one table"):
        definitions(tmp_path).resolve_job_def("free_alone")
    (tmp_path / "code.py").write_text(CODE_LOCATION)
    location = ReconstructableRepository.for_file(str(tmp_path / "code.py"), "defs")
    with pytest.raises(UnsupportedAsset, match="have one table"):
        location.get_definition()
    assert BODIES == [] and not (tmp_path / "w.duckdb").exists()


@pytest.mark.parametrize("other", ["duckdb:///{folder}/w.duckdb", "w.duckdb", "{folder}/link.duckdb"])
def test_neither_do_those_of_two_io_managers_over_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.duckdb").symlink_to(tmp_path / "w.duckdb")
    managers = {
        "io_manager": DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb")),
        "two": DuckDBPartitionIOManager(url=other.format(folder=tmp_path), schema="Main"),
    }
    assets = [asset("orders"), asset("Orders", None, "shop", io_manager_key="two")]
    with pytest.raises(UnsupportedAsset, match="'orders', 'shop/Orders' have one table"):
        dg.Definitions(assets=assets, resources=managers).get_repository_def()


def test_an_io_manager_that_has_loaded_other_definitions_judges_the_next_ones_too(tmp_path: Path) -> None:
    resources = {"io_manager": DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))}
    dg.Definitions(assets=[asset("orders")], resources=resources).get_repository_def()
    with pytest.raises(UnsupportedAsset, match="have one table"):
        dg.Definitions(assets=[asset("orders"), asset("Orders")], resources=resources).get_repository_def()


def test_what_could_not_be_stored_is_refused_at_load_too_and_all_of_it_at_once(tmp_path: Path) -> None:
    hourly = dg.HourlyPartitionsDefinition("2024-03-01-00:00")
    cells = dg.MultiPartitionsDefinition({"at": hourly, "region": dg.StaticPartitionsDefinition(["a"])})
    assets = [asset("cells", partitions_def=cells), asset("bad", {"drift": "x"}), asset("one"), asset("One")]
    resources = {"io_manager": DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))}
    with pytest.raises(UnsupportedAsset, match=r"(?s)'cells'.*drift is 'x'.*'One', 'one' have one table"):
        dg.Definitions(assets=assets, resources=resources).get_repository_def()


def test_what_is_never_stored_loads_and_runs_whatever_its_metadata_say(tmp_path: Path) -> None:
    """They are another tool's, with other meanings."""
    metadata = {"schema": dg.MetadataValue.json({"n": "int"}), "table": 7}

    @dg.asset(metadata=metadata)
    def result() -> dg.MaterializeResult:  # type: ignore[type-arg]
        return dg.MaterializeResult(metadata={"rows": 1})

    @dg.asset(metadata=metadata)
    def nothing() -> None:
        BODIES.append("nothing")

    @dg.asset(metadata=metadata)
    def unsaid():  # type: ignore[no-untyped-def]
        return dg.MaterializeResult(metadata={"rows": 1})

    resources = {"io_manager": DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))}
    for _ in range(2):
        assert dg.materialize([result, nothing, asset("orders")], resources=resources).success
    with pytest.raises(UnsupportedAsset, match=r"(?s)'unsaid'.*hands nothing to its IO manager says so: `-> None`"):
        dg.Definitions(assets=[unsaid], resources=resources).get_repository_def()


@pytest.mark.usefixtures("not_told_at_load")
def test_a_run_fails_before_its_first_step_and_names_both_assets(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        resolved = definitions(tmp_path).resolve_job_def("all_of_them")
        done = resolved.execute_in_process(instance=instance, raise_on_error=False)
        assert not done.success
        [refused] = [event for event in done.all_events if event.is_resource_init_failure]
        assert "The assets 'old_orders', 'orders' have one table" in str(refused.event_specific_data)
        run = instance.get_run_by_id(done.run_id)
        assert run is not None and run.tags["etl/failure"] == "permanent"
        assert BODIES == [] and not (tmp_path / "w.duckdb").exists()


CODE_LOCATION = """
from pathlib import Path
from etl_project_tests.unit.storage.dagster.test_one_table import definitions
defs = definitions(Path(__file__).parent)
"""


@pytest.mark.usefixtures("not_told_at_load")
@pytest.mark.parametrize(("job", "works"), [("one", False), ("free_alone", True)])
def test_in_a_code_location_the_other_asset_need_not_be_in_the_run(tmp_path: Path, job: str, works: bool) -> None:
    """As run workers execute a run: of a job that is loaded with all that is defined beside it."""
    (tmp_path / "code.py").write_text(CODE_LOCATION)
    location = ReconstructableRepository.for_file(str(tmp_path / "code.py"), "defs")
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
        done = dg.execute_job(location.get_reconstructable_job(job), instance=instance, raise_on_error=False)
        assert done.success is works
        told = [str(event.event_specific_data) for event in done.all_events if event.is_resource_init_failure]
        assert works or "The assets 'old_orders', 'orders' have one table" in told[0]


@pytest.mark.usefixtures("not_told_at_load")
def test_a_run_of_other_assets_goes_on(tmp_path: Path) -> None:
    assert definitions(tmp_path).resolve_job_def("free_alone").execute_in_process().success


def test_tables_of_the_same_name_in_two_files_are_two(tmp_path: Path) -> None:
    job = definitions(tmp_path, io_manager_key="other").resolve_job_def("all_of_them")
    assert job.execute_in_process().success


def test_materialize_of_both_is_refused(tmp_path: Path) -> None:
    assets = [asset("daily", None, "a", "shop"), asset("daily", None, "b", "shop")]
    resources = {"io_manager": DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))}
    with pytest.raises(UnsupportedAsset, match="have one table"):
        dg.materialize(assets, resources=resources, raise_on_error=False)
    assert BODIES == []
    files = {"io_manager": ParquetPartitionIOManager(root=str(tmp_path / "lake"))}
    assert dg.materialize(assets, resources=files).success, "a folder is named by the whole key"


@pytest.mark.usefixtures("not_told_at_load")
def test_where_dagster_does_not_say_what_is_defined_the_database_still_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(internals, "definitions_of_run", lambda: None)
    done = definitions(tmp_path).resolve_job_def("all_of_them").execute_in_process(raise_on_error=False)
    assert not done.success
    failures = [str(event.step_failure_data.user_failure_data) for event in done.get_step_failure_events()]
    assert len(failures) == 1 and "orders" in failures[0] and "old_orders" in failures[0]


def test_a_run_that_takes_a_part_of_a_multi_asset_begins(tmp_path: Path) -> None:
    outs = {"rows": dg.AssetOut(is_required=False), "rejects": dg.AssetOut(is_required=False)}

    @dg.multi_asset(outs=outs, can_subset=True)
    def read(context: dg.AssetExecutionContext) -> Iterator[dg.Output[pd.DataFrame]]:
        for name in sorted(context.selected_output_names):
            yield dg.Output(pd.DataFrame({"x": [1]}), name)

    manager = DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))
    for asset in ("rows", "rejects"):
        done = dg.materialize([read], resources={"io_manager": manager}, selection=[asset], raise_on_error=False)
        assert done.success, [event.message for event in done.all_events if event.is_failure]
