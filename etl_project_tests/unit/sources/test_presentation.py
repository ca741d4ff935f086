"""What the UI shows of the definitions: no asset is left without the words that explain it."""

from collections.abc import Iterator

import dagster as dg
import pytest

from etl_project.definitions import build_defs

Specs = dict[str, dg.AssetSpec]


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.Definitions]:
    """Everything there can be: all pipelines, and the delivery, which exists only with an address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETL_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        patch.setenv("ETL_DELIVERY_URL", "http://127.0.0.1:9/reports")
        yield build_defs()


@pytest.fixture(scope="module")
def specs(definitions: dg.Definitions) -> Specs:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def columns(spec: dg.AssetSpec) -> list[dg.TableColumn]:
    schema = spec.metadata.get("dagster/column_schema")
    return list(schema.columns) if isinstance(schema, dg.TableSchema) else []


def test_there_are_the_assets_of_both_pipelines_and_the_delivery(specs: Specs) -> None:
    assert {spec.group_name for spec in specs.values()} == {"orders", "payments", "delivery"}
    assert len(specs) >= 14


def test_every_asset_has_a_description_a_group_and_kinds(specs: Specs) -> None:
    lacking = [name for name, spec in specs.items() if not (spec.description and spec.group_name and spec.kinds)]
    assert lacking == []


def test_every_asset_of_a_pipeline_has_the_owners_of_its_source(specs: Specs) -> None:
    owners = {spec.group_name: set[str]() for spec in specs.values()}
    for spec in specs.values():
        owners[spec.group_name] |= {",".join(spec.owners)}
    assert owners == {"orders": {"team:shop"}, "payments": {"team:bookkeeping"}, "delivery": {""}}


def test_every_asset_with_rows_has_its_columns_each_with_a_type_and_a_comment(specs: Specs) -> None:
    stored = {name: columns(spec) for name, spec in specs.items() if not name.endswith("_files")}
    assert [name for name, found in stored.items() if not found] == []
    assert [f"{name}.{c.name}" for name, found in stored.items() for c in found if not (c.type and c.description)] == []


def test_raw_rows_are_described_by_the_contract_and_by_where_they_come_from(specs: Specs) -> None:
    typed = {column.name: column for column in columns(specs["orders"])}
    raw = {column.name: column for column in columns(specs["raw_orders"])}
    assert {*raw} == {*typed} - {"line_no"} | {"source_file", "source_line"}
    assert raw["unit_price"] == typed["unit_price"]


def test_every_check_sensor_schedule_and_job_says_what_it_is(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    said = {
        **{f"check {c.key.to_user_string()}": c.description for d in definitions.asset_checks or () for c in d.specs},
        **{f"sensor {sensor.name}": sensor.description for sensor in repository.sensor_defs},
        **{f"schedule {schedule.name}": schedule.description for schedule in repository.schedule_defs},
        **{f"job {job.name}": job.description for job in repository.get_all_jobs() if not job.name.startswith("__")},
    }
    assert [name for name, words in said.items() if not words] == []
