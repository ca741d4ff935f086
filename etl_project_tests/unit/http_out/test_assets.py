"""The shells: the report goes out once a content and day, and every failed run is posted once, whatever breaks."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from etl_project.declare.daily_table import WAREHOUSE, daily_partitions, single_run
from etl_project.due import attempts
from etl_project.due.pending import Due
from etl_project.failures import FAILURE_TAG
from etl_project.http_out.assets import deliver_days, delivery_asset, delivery_definitions, run_failure_alert
from etl_project.http_out.client import DeliveryFailed, DeliveryRejected
from etl_project.http_out.component import DeliveredTable
from etl_project.http_out.resource import Delivery
from etl_project.http_out.settings import Outgoing
from etl_project.settings import SettingsError
from etl_project.storage import DuckDBPartitionIOManager
from etl_project_tests import steady
from etl_project_tests.unit.http_in.servers import Script, answer, client, outgoing

DAYS = ("2026-03-01", "2026-03-02", "2026-03-03")


class Project:
    """A warehouse with a report, and its delivery."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.revenue = {day: Decimal("12.300") for day in DAYS}

    def run(
        self, sending: Outgoing, instance: dg.DagsterInstance | None = None, tags: Mapping[str, str] = {}
    ) -> dg.ExecuteInProcessResult:
        """Build report and delivery for all days, as one range run."""
        revenue = self.revenue

        @dg.asset(partitions_def=daily_partitions(), backfill_policy=single_run(), io_manager_key=WAREHOUSE)
        def daily_report() -> pa.Table:
            rows = [{"batch_date": date.fromisoformat(day), "revenue": amount} for day, amount in revenue.items()]
            schema = pa.schema([("batch_date", pa.date32()), ("revenue", pa.decimal128(18, 3))])
            return pa.Table.from_pylist(rows, schema=schema)

        return dg.materialize(
            [daily_report, delivery_asset("daily_report", "report_delivery", sending.since)],
            resources={
                WAREHOUSE: DuckDBPartitionIOManager(url=str(self.folder / "w.duckdb")),
                "delivery": Delivery(sending, self.folder / "delivery.sqlite"),
            },
            tags={
                "dagster/asset_partition_range_start": DAYS[0],
                "dagster/asset_partition_range_end": DAYS[-1],
                **tags,
            },
            instance=instance,
            raise_on_error=False,
        )

    def delivered(self) -> list[tuple[str, int]]:
        with duckdb.connect(str(self.folder / "w.duckdb"), read_only=True) as connection:
            rows = connection.execute("select batch_date::varchar, status from report_delivery order by 1").fetchall()
        return [(day, status) for day, status in rows]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_every_day_is_posted_once_however_often_it_is_built(project: Project) -> None:
    script = Script(answer(201))
    with script.serving() as port:
        for _ in range(2):
            assert project.run(outgoing(f"http://127.0.0.1:{port}/")).success
    assert [json.loads(body) for _, body in script.requests] == [
        {"report": "daily_report", "batch_date": day, "revenue": "12.300"} for day in DAYS
    ]
    assert project.delivered() == [(day, 201) for day in DAYS]


def test_only_the_day_whose_report_changed_is_posted_again(project: Project) -> None:
    script = Script(answer(201))
    with script.serving() as port:
        project.run(outgoing(f"http://127.0.0.1:{port}/"))
        project.revenue[DAYS[1]] = Decimal("13")
        for _ in range(2):
            project.run(outgoing(f"http://127.0.0.1:{port}/"))
    [_, second, _, again] = [json.loads(body) for _, body in script.requests]
    assert again == {**second, "revenue": "13.000", "supersedes": script.requests[1][0]["idempotency-key"].strip('"')}


def test_days_before_the_first_to_be_delivered_are_left_alone(project: Project) -> None:
    script = Script(answer(201))
    with script.serving() as port:
        assert project.run(outgoing(f"http://127.0.0.1:{port}/", since=date(2026, 3, 3))).success
    assert len(script.requests) == 1
    assert project.delivered() == [("2026-03-03", 201)]


def test_a_refused_day_fails_the_run_for_good_after_the_others_went_out(project: Project) -> None:
    script = Script(answer(201), answer(400), answer(201))
    instance = dg.DagsterInstance.ephemeral()
    with script.serving() as port:
        result = project.run(outgoing(f"http://127.0.0.1:{port}/"), instance)
        assert not result.success
        assert "daily_report 2026-03-02" in str(result.failure_data_for_node("report_delivery"))
        assert instance.get_runs()[0].tags[FAILURE_TAG] == "permanent"
        assert len(script.requests) == 3
        assert project.run(outgoing(f"http://127.0.0.1:{port}/")).success
    assert len(script.requests) == 4


def test_an_unreachable_receiver_fails_the_run_retryably(project: Project) -> None:
    instance = dg.DagsterInstance.ephemeral()
    assert not project.run(outgoing(f"http://127.0.0.1:{steady.ports()}/", attempts=1), instance).success
    assert instance.get_runs()[0].tags[FAILURE_TAG] == "transient"


def test_only_a_run_that_a_person_started_meets_a_silent_receiver_again_before_its_pause_is_over(
    project: Project,
) -> None:
    asked_for = attempts.tags(Due(date(2026, 3, 1), date(2026, 3, 3), ("report_delivery",), "state"))
    script = Script(answer(503))
    with script.serving() as port:
        sending = outgoing(f"http://127.0.0.1:{port}/", attempts=1)
        for tags, requests in ((asked_for, 2), (asked_for, 2), ({"etl/state": "of an older version"}, 2), ({}, 4)):
            assert not project.run(sending, tags=tags).success
            assert len(script.requests) == requests


def test_a_table_with_more_than_one_row_a_day_is_refused_before_anything_is_posted(project: Project) -> None:
    script = Script(answer(201))
    with script.serving() as port, client(project.folder, outgoing(f"http://127.0.0.1:{port}/")) as (sender, _):
        rows = [{"batch_date": date(2026, 3, 1), "n": number} for number in range(2)]
        with pytest.raises(DeliveryRejected, match="2026-03-01: 2 rows; one a day is delivered"):
            list(deliver_days(sender, "report", rows, patient=False))
    assert script.requests == []


def test_a_receiver_that_confirms_nothing_ends_a_long_range_after_two_days(project: Project) -> None:
    script = Script(answer(503))
    rows = [{"batch_date": date(2020, 1, 1) + timedelta(days=number)} for number in range(500)]
    with script.serving() as port:
        settings = outgoing(f"http://127.0.0.1:{port}/", attempts=2)
        for patient, requests in ((False, 4), (True, 4), (False, 8)):
            with client(project.folder, settings) as (sender, deliveries):
                with pytest.raises(DeliveryFailed, match="answered 503"):
                    list(deliver_days(sender, "report", rows, patient=patient))
                assert len(script.requests) == requests
                assert len(deliveries.of_asset("report")) == 3


def test_without_an_address_there_is_neither_asset_nor_sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    component = DeliveredTable(table="daily_report", name="report_delivery")
    monkeypatch.delenv("ETL_DELIVERY_URL", raising=False)
    assert not component.build_defs(None).assets  # type: ignore[arg-type]
    assert not delivery_definitions(Delivery(None, tmp_path)).sensors
    monkeypatch.setenv("ETL_DELIVERY_URL", "https://example.org/")
    [asset] = component.build_defs(None).assets or ()  # type: ignore[arg-type]
    assert isinstance(asset, dg.AssetsDefinition)
    assert asset.key == dg.AssetKey("report_delivery")
    assert asset.dependency_keys == {dg.AssetKey("daily_report")}
    on = delivery_definitions(Delivery(outgoing("https://example.org/"), tmp_path))
    assert [sensor.name for sensor in on.sensors or ()] == ["run_failure_alert"]


def test_any_table_can_be_delivered_under_any_name_with_a_contract_of_that_name() -> None:
    asset = delivery_asset("stock", "stock_sent")
    metadata = asset.metadata_by_key[dg.AssetKey("stock_sent")]
    assert "CREATE TABLE stock_sent (" in metadata["contract_sql"]
    assert "report_delivery" not in metadata["contract_sql"]
    for wrong in ("two words", "", "x;y"):
        with pytest.raises(ValueError, match="String should match pattern"):
            DeliveredTable(table="stock", name=wrong)


@dg.op
def broken() -> None:
    raise ValueError("the cellar is under water")


@dg.job
def breaks() -> None:
    broken()


@dg.job
def works() -> None:
    pass


def test_every_failed_run_is_posted_once_and_an_unreachable_receiver_loses_none(tmp_path: Path) -> None:
    records = tmp_path / "delivery.sqlite"
    script = Script(answer(201))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        works.execute_in_process(instance=instance)
        failed = [breaks.execute_in_process(instance=instance, raise_on_error=False).run_id for _ in range(2)]
        unreachable = run_failure_alert(Delivery(outgoing(f"http://127.0.0.1:{steady.ports()}/", attempts=1), records))
        with pytest.raises(Exception, match="no confirmation"):
            unreachable(dg.build_sensor_context(instance))
        with script.serving() as port:
            sensor = run_failure_alert(Delivery(outgoing(f"http://127.0.0.1:{port}/"), records))
            for _ in range(3):
                sensor(dg.build_sensor_context(instance))
            failed.append(breaks.execute_in_process(instance=instance, raise_on_error=False).run_id)
            sensor(dg.build_sensor_context(instance))
    alerts = [json.loads(body) for _, body in script.requests]
    assert [alert["run_id"] for alert in alerts] == failed
    assert all(alert["job"] == "breaks" and "under water" in alert["message"] for alert in alerts)


def test_a_refused_alert_is_shown_once_and_not_posted_for_ever(tmp_path: Path) -> None:
    script = Script(answer(400))
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, script.serving() as port:
        breaks.execute_in_process(instance=instance, raise_on_error=False)
        sensor = run_failure_alert(Delivery(outgoing(f"http://127.0.0.1:{port}/"), tmp_path / "delivery.sqlite"))
        with pytest.raises(Exception, match="refused with 400"):
            sensor(dg.build_sensor_context(instance))
        for _ in range(2):
            sensor(dg.build_sensor_context(instance))
    assert len(script.requests) == 1


def test_a_delivery_without_an_address_says_which_setting_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ETL_DELIVERY_URL is not set"):
        Delivery(None, tmp_path).open(logging.getLogger()).__enter__()
