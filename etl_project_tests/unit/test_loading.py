"""How the process of a run loads the project: once, and without what only the UI shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.definitions.repository_definition import RepositoryLoadData

from etl_project import definitions

TYPES = "plugin_component_types_json"
STARTING, RUNNING = (
    DefinitionsLoadContext(load_type=one, repository_load_data=None)
    for one in (DefinitionsLoadType.INITIALIZATION, DefinitionsLoadType.RECONSTRUCTION)
)


@pytest.fixture(autouse=True)
def loaded_by_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    with DefinitionsLoadContext.scoped(STARTING):
        yield


def as_in_a_run() -> ReconstructableJob:
    """The job as the process of a run is given it."""
    repository = ReconstructableRepository.for_module("etl_project.definitions", "defs")
    return repository.get_reconstructable_job("build_days").with_repository_load_data(RepositoryLoadData())


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[dg.Definitions]:
    """What was loaded so far."""
    found: list[dg.Definitions] = []
    build_defs = definitions.build_defs

    def noted() -> dg.Definitions:
        found.append(build_defs())
        return found[-1]

    monkeypatch.setattr(definitions, "build_defs", noted)
    return found


def test_a_run_of_selected_assets_loads_the_project_once_and_one_under_other_settings_anew(
    tmp_path: Path, loads: list[dg.Definitions], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = as_in_a_run()
    whole = job.get_definition()
    part = job.get_subset(asset_selection={dg.AssetKey("daily_report")}).get_definition()
    assert len(part.asset_layer.executable_asset_keys) == 1 < len(whole.asset_layer.executable_asset_keys)
    assert len(loads) == 1
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "other"))
    assert job.get_subset(asset_selection={dg.AssetKey("orders")}).get_definition()
    assert len(loads) == 2


def test_a_code_server_loads_the_project_once_for_both_times_that_dagster_asks(loads: list[dg.Definitions]) -> None:
    shown = definitions.defs()
    assert as_in_a_run().get_definition() and len(loads) == 1
    assert TYPES in shown.metadata, "what it asks for the second time is what the UI shows"
    DefinitionsLoadContext.set(STARTING)
    assert definitions.defs() is not shown, "whoever asks for what is there gets what is there now"


def test_a_run_loads_the_same_assets_without_the_types_of_components_that_the_ui_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = definitions.defs()
    monkeypatch.setenv("ANOTHER_PROCESS", "1")
    with DefinitionsLoadContext.scoped(RUNNING):
        run = definitions.defs()
    assert TYPES in shown.metadata and TYPES not in run.metadata
    there, here = (sorted(one.resolve_all_asset_specs(), key=lambda spec: spec.key) for one in (shown, run))
    assert [(one.key, one.code_version, one.metadata.keys()) for one in there] == [
        (one.key, one.code_version, one.metadata.keys()) for one in here
    ]
