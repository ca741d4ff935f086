"""OpenLineage: a real receiver gets what runs read and wrote, whatever it did before, and never a secret or a row."""

# No `from __future__ import annotations` here: Dagster reads the annotations of assets as they stand.

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from etl_project import openlineage, settings, utc
from etl_project.openlineage import sensor, telling
from etl_project.storage import DuckDBPartitionIOManager, Slice, Sql
from etl_project_tests import steady
from etl_project_tests.deployments import FIRST_DAY, Place, order_file
from etl_project_tests.unit.http_in.servers import Script, answer

DAYS = dg.DailyPartitionsDefinition("2025-03-01", end_date="2025-03-05")
SECRET = "correct-horse-battery"


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def orders(context: dg.AssetExecutionContext) -> pa.Table:
    days = [date.fromisoformat(key) for key in context.partition_keys]
    return pa.table({"batch_date": days, "units": [41_234] * len(days)})


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def sales(orders: Slice) -> Sql:
    """Units of a day."""
    return Sql("select batch_date, sum(units) as sold from orders group by all", orders=orders)


@dg.asset(partitions_def=DAYS, deps=[sales])
def broken() -> pa.Table:
    raise ValueError(f"no answer from postgresql://etl:hidden-word@db/x password='other-word', token {SECRET}")


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("ETL_DELIVERY_TOKEN", SECRET)
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def build(instance: dg.DagsterInstance, folder: Path, *assets: dg.AssetsDefinition, **tags: str) -> bool:
    io_manager = DuckDBPartitionIOManager(url=str(folder / "w.duckdb"), record_inputs=True, preview_rows=5)
    done = dg.Definitions(
        [orders, sales, broken],
        resources={"io_manager": io_manager},
        jobs=[dg.define_asset_job("build", [one.key for one in assets])],
    )
    job = done.resolve_job_def("build")
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False).success


RANGE = {"dagster/asset_partition_range_start": "2025-03-01", "dagster/asset_partition_range_end": "2025-03-02"}


def configured(folder: Path, port: int, **more: Any) -> settings.Settings:
    found = settings.load({"ETL_DATA_DIR": str(folder), "ETL_OPENLINEAGE_API_KEY": "key-of-the-receiver"})
    return replace(found, openlineage_url=f"http://127.0.0.1:{port}", **more)


def told(script: Script) -> list[dict[str, Any]]:
    return [json.loads(body) for _, body in script.requests]


def ends(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {event["job"]["name"]: event for event in events if event["eventType"] != "START"}


def partitions(dataset: Mapping[str, Any]) -> dict[str, str]:
    return {one["partition"]: one["version"] for one in dataset["facets"]["etl_partitions"]["partitions"]}


def test_a_run_is_told_with_its_days_the_versions_that_it_read_and_wrote_and_the_columns_behind_each_column(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert build(instance, tmp_path, orders, sales, **RANGE)
    script = Script(answer(201))
    columns = {"sales": dg.TableSchema([dg.TableColumn("sold", "DECIMAL", "units sold")])}
    with script.serving() as port:
        found = telling.tell(instance, configured(tmp_path, port, openlineage_namespace="shop"), columns)
        assert found == (1, 0, ())
        assert telling.tell(instance, configured(tmp_path, port), columns) == (0, 0, ()), "once"
    assert {headers["authorization"] for headers, _ in script.requests} == {"Bearer key-of-the-receiver"}
    events, end = told(script), ends(told(script))
    assert [(e["eventType"], e["job"]["name"]) for e in events] == [
        ("START", "build"),
        *(("START", "orders"), ("COMPLETE", "orders"), ("START", "sales"), ("COMPLETE", "sales")),
        ("COMPLETE", "build"),
    ]
    [source], [made] = end["sales"]["inputs"], end["sales"]["outputs"]
    [written] = end["orders"]["outputs"]
    assert (source["namespace"], source["name"]) == ("shop", "orders")
    assert partitions(source) == partitions(written) and list(partitions(made)) == ["2025-03-01", "2025-03-02"]
    versions = {one.partition: one.tags["dagster/data_version"] for one in materialized(instance, "sales")}
    assert partitions(made) == versions
    days = [{"dimensions": {"partition": day}, "identifier": day} for day in partitions(made)]
    assert made["outputFacets"]["subset"]["outputCondition"]["partitions"] == days
    assert source["inputFacets"]["subset"]["inputCondition"]["partitions"] == days
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert made["facets"]["columnLineage"]["fields"]["sold"]["inputFields"] == [
        {"namespace": "shop", "name": "orders", "field": "units", "transformations": []}
    ]
    assert made["facets"]["schema"]["fields"][0]["name"] == "sold" and "version" not in made["facets"]
    nominal = end["sales"]["run"]["facets"]["nominalTime"]
    assert (nominal["nominalStartTime"], nominal["nominalEndTime"]) == (
        "2025-03-01T00:00:00+00:00",
        "2025-03-03T00:00:00+00:00",
    )
    assert end["sales"]["run"]["facets"]["parent"]["run"]["runId"] == end["build"]["run"]["runId"]
    assert "41234" not in json.dumps(events), "no row is in them, not even a previewed one"


def materialized(instance: dg.DagsterInstance, asset: str) -> list[Any]:
    found = instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    return [one.asset_materialization for one in found]


def test_of_a_single_day_the_version_is_that_of_the_dataset_and_sending_it_again_is_the_same_run(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert build(instance, tmp_path, orders, sales, **{"dagster/partition": "2025-03-03"})
    script = Script(answer(200))
    with script.serving() as port:
        telling.tell(instance, configured(tmp_path, port), {})
        first = told(script)
        instance.daemon_cursor_storage.set_cursor_values(
            {telling._CURSOR: json.dumps({"since": "2025-01-01T00:00:00+00:00", "told": {}})}
        )
        telling.tell(instance, configured(tmp_path, port), {})
    assert told(script) == [*first, *first]
    [made], [one] = ends(first)["sales"]["outputs"], materialized(instance, "sales")
    assert made["facets"]["version"]["datasetVersion"] == one.tags["dagster/data_version"]


def test_a_failed_run_is_told_with_its_error_and_without_any_secret(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert build(instance, tmp_path, orders, sales, **{"dagster/partition": "2025-03-03"})
    assert not build(instance, tmp_path, broken, **{"dagster/partition": "2025-03-03"})
    script = Script(answer(201))
    with script.serving() as port:
        assert telling.tell(instance, configured(tmp_path, port), {}).runs == 2
    failed = [event for event in told(script) if event["eventType"] == "FAIL"]
    assert [event["job"]["name"] for event in failed] == ["broken", "build"]
    for event in failed:
        message = event["run"]["facets"]["errorMessage"]["message"]
        assert "no answer from postgresql://etl:***@db/x password=***, token ***" in message
    text = json.dumps(told(script))
    assert not any(word in text for word in (SECRET, "hidden-word", "other-word", "key-of-the-receiver"))


@pytest.mark.parametrize("status", [500, 503, 401, 404, 429, None])
def test_what_a_receiver_did_not_take_comes_with_the_next_call_and_the_problem_names_no_address(
    instance: dg.DagsterInstance, tmp_path: Path, status: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    for day in ("2025-03-01", "2025-03-02"):
        assert build(instance, tmp_path, orders, **{"dagster/partition": day})
    script = Script(answer(status or 201), answer(201))
    with script.serving() as port, caplog.at_level(logging.DEBUG):
        first = configured(tmp_path, port if status else steady.ports())
        found = telling.tell(instance, first, {})
        [problem] = found.problems
        assert (found.runs, found.left) == (0, 2) and "it is sent again" in problem and "127.0.0.1" not in problem
        assert telling.tell(instance, configured(tmp_path, port), {}) == (2, 0, ())
    assert "key-of-the-receiver" not in caplog.text
    assert sorted(one["job"]["name"] for one in told(script) if one["outputs"]) == ["orders", "orders"]


def test_an_event_that_is_refused_for_good_keeps_no_other_back(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    for day in ("2025-03-01", "2025-03-02"):
        assert build(instance, tmp_path, orders, **{"dagster/partition": day})
    script = Script(answer(422), answer(201))
    with script.serving() as port:
        found = telling.tell(instance, configured(tmp_path, port), {})
        assert (found.runs, found.left) == (2, 0) and "refused with 422 and is passed over" in found.problems[0]
        assert telling.tell(instance, configured(tmp_path, port), {}).runs == 0
    assert len(told(script)) == 8


def test_runs_that_are_left_when_the_time_is_over_are_told_later_and_tags_that_come_later_tell_none_again(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in ("2025-03-01", "2025-03-02", "2025-03-03"):
        assert build(instance, tmp_path, orders, **{"dagster/partition": day})
    script = Script(answer(201))
    with script.serving() as port:
        ready = configured(tmp_path, port)
        found = telling.tell(instance, ready, {}, seconds=-1)
        assert (found.runs, found.left) == (0, 3)
        assert telling.tell(instance, ready, {}).runs == 3
        later = utc.now() + timedelta(hours=3)
        monkeypatch.setattr(telling, "_OVERLAP", timedelta(0))
        assert telling.tell(instance, ready, {}).runs == 0
        for run in instance.get_runs():
            instance.add_run_tags(run.run_id, {"note": str(later)})
        assert telling.tell(instance, ready, {}).runs == 0


def test_the_sensor_is_there_only_with_an_address_and_a_receiver_that_is_away_is_an_error_of_its_tick(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    without = settings.load({"ETL_DATA_DIR": str(tmp_path)})
    assert openlineage.sensors(without, []) == []
    assert build(instance, tmp_path, orders, **{"dagster/partition": "2025-03-01"})
    [away] = openlineage.sensors(configured(tmp_path, steady.ports()), [])
    skipped: Any = away(dg.build_sensor_context(instance))
    assert skipped.skip_message.startswith("0 runs told, 1 left for the next tick")
    with Script(answer(201)).serving() as port:
        [there] = openlineage.sensors(configured(tmp_path, port), [])
        said: Any = there(dg.build_sensor_context(instance))
        assert said.skip_message == "1 runs told"


def test_an_address_without_the_client_is_one_line_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor, "find_spec", lambda _: None)
    with pytest.raises(Exception, match=r"pip install 'etl-project\[openlineage\]'") as refused:
        openlineage.sensors(configured(tmp_path, 1), [])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["marquez:5000", "https://user:s3cret-word@host", "ftp://host", "http://", "http://a b"]
)
def test_an_address_that_is_none_is_one_line_without_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(settings.SettingsError, match="ETL_OPENLINEAGE_URL is no address of a server") as refused:
        settings.load({"ETL_DATA_DIR": str(tmp_path), "ETL_OPENLINEAGE_URL": url})
    assert url not in str(refused.value) and "\n" not in str(refused.value)


def test_without_the_setting_events_say_nothing_of_what_was_read(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    io_manager = DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))
    assert dg.materialize(
        [orders], instance=instance, partition_key="2025-03-01", resources={"io_manager": io_manager}
    ).success
    [event] = materialized(instance, "orders")
    assert "inputs_read" not in event.metadata


@pytest.mark.long
def test_a_drain_tells_what_it_has_built_and_goes_well_while_the_receiver_is_away(tmp_path: Path) -> None:
    place, script = Place(tmp_path / "data"), Script(answer(201))
    place.drop("2025-03-03.csv", order_file(date(2025, 3, 3)))
    done = place.etl("drain", ETL_START_DATE=FIRST_DAY, ETL_OPENLINEAGE_URL=f"http://127.0.0.1:{steady.ports()}")
    assert done.returncode == 0 and "did not reach ETL_OPENLINEAGE_URL" in done.stderr
    with script.serving() as port:
        place.drained(ETL_START_DATE=FIRST_DAY, ETL_OPENLINEAGE_URL=f"http://127.0.0.1:{port}")
    end = ends(told(script))
    assert [one["name"] for one in end["read_orders"]["inputs"]] == ["orders_files"]
    assert [one["name"] for one in end["daily_report"]["inputs"]] == ["daily_sales", "orders"]
    assert end["daily_sales"]["outputs"][0]["facets"]["columnLineage"]["fields"]["revenue"]["inputFields"]
