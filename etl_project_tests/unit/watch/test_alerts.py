"""Alerts: each state is told once, over HTTP or in the log, whatever breaks; and no day is left failed unnoticed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_project import instance as instances
from etl_project import utc
from etl_project.definitions import build_defs, load_project
from etl_project.due.snapshot import look
from etl_project.watch import alerts_sensor
from etl_project.watch.alerts import Alert, alerts
from etl_project.watch.alerts_sensor import CHECK, Memory
from etl_project_tests import steady
from etl_project_tests.deployments import ROOT, Place, order_file
from etl_project_tests.unit.http_in.servers import Script, answer

DAY = date(2025, 3, 3)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Place(tmp_path_factory.mktemp("built") / "data")
    place.drop(f"{DAY}.csv", order_file(DAY, invoices=5))
    place.drop(f"bad-{DAY}.csv", "not,the,header\n")
    place.drained(expected_exit=1)
    return place.data


@pytest.fixture
def place(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A deployment with one good day and one refused file."""
    place = Place(Path(shutil.copytree(built, tmp_path / "data")))
    monkeypatch.setenv("ETL_DATA_DIR", str(place.data))
    monkeypatch.setenv("ETL_SETTLE_SECONDS", "0")
    return place


class Sensor:
    """The sensor of a deployment and its cursor, evaluated as Dagster does."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.definition = build_defs().resolve_sensor_def("alerts")
        self.cursor: str | None = None

    def tick(self) -> dict[str, bool]:
        """One tick; gives the results of the check that it records."""
        result: Any = self.definition(dg.build_sensor_context(self.instance, cursor=self.cursor))
        assert isinstance(result, dg.SensorResult)
        self.cursor, self.events = result.cursor, list(result.asset_events)
        self.skipped = str(result.skip_reason)
        return {e.asset_key.to_user_string(): e.passed for e in self.events if isinstance(e, dg.AssetCheckEvaluation)}


@pytest.fixture
def sensor(place: Place) -> Iterator[Sensor]:
    with instances.opened(ROOT) as opened:
        yield Sensor(opened)


def asked_by_hand(instance: dg.DagsterInstance, asset: str) -> bool:
    """The check as a person runs it from the UI."""
    check = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(asset), CHECK))
    jobs = dg.Definitions(jobs=[dg.define_asset_job("by_hand", selection=check)])
    job = dg.Definitions.merge(build_defs(), jobs).resolve_job_def("by_hand")
    [evaluation] = job.execute_in_process(instance=instance).get_asset_check_evaluations()
    return evaluation.passed


def warnings(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capfd.readouterr().err.splitlines() if "WARNING" in line and "alert: " in line]


def test_a_refused_file_is_one_warning_however_often_the_sensor_looks_and_another_when_it_is_refused_again(
    place: Place, sensor: Sensor, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        sensor.tick()
    [line] = warnings(capfd)
    assert "alert: file refused, source: orders" in line and f"bad-{DAY}.csv" in line
    [listed] = json.loads(place.etl("quarantine", "list", "--json").stdout)
    assert place.etl("quarantine", "release", listed["key"]).returncode == 0
    place.drained(expected_exit=1)
    for _ in range(2):
        sensor.tick()
    assert len(warnings(capfd)) == 1


def test_with_an_address_each_state_is_posted_once_and_an_unreachable_receiver_loses_none(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    script = Script(answer(201))
    with instances.opened(ROOT) as opened, script.serving() as port:
        monkeypatch.setenv("ETL_DELIVERY_URL", f"http://127.0.0.1:{steady.ports()}/")
        nobody = Sensor(opened)
        assert nobody.tick(), "a receiver that is away does not keep the checks from being told"
        assert "0 alerts told, 1 not confirmed" in nobody.skipped
        monkeypatch.setenv("ETL_DELIVERY_URL", f"http://127.0.0.1:{port}/")
        sensor = Sensor(opened)
        for _ in range(2):
            sensor.tick()
        sensor.cursor = None
        sensor.tick()
    [(_, body)] = script.requests
    told = json.loads(body)
    assert (told["alert"], told["source"], told["day"]) == ("file refused", "orders", str(DAY))
    assert told["file"] == f"bad-{DAY}.csv" and warnings(capfd) == []


def test_an_alert_that_is_refused_does_not_keep_the_others_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Alert(f"refused/{number}", DAY, {"alert": "file refused", "number": number}) for number in range(3)]
    monkeypatch.setattr(alerts_sensor, "alerts", lambda *_: found)
    script = Script(answer(422), answer(201))
    with instances.opened(ROOT) as opened, script.serving() as port:
        monkeypatch.setenv("ETL_DELIVERY_URL", f"http://127.0.0.1:{port}/")
        sensor = Sensor(opened)
        assert sensor.tick() and "2 alerts told, 1 not confirmed" in sensor.skipped
        sensor.tick()
    assert [json.loads(body)["number"] for _, body in script.requests] == [0, 1, 2], "the refused one is not repeated"


def test_everything_that_could_come_up_again_is_remembered_and_old_runs_are_forgotten() -> None:
    found = [Alert(f"refused/{number}", DAY, {}) for number in range(3000)]
    run = Alert("run_failure/a", DAY, {})
    memory = Memory({}, {})
    for at in range(0, 3000, 20):
        memory = Memory(memory.after(found, [*found[at : at + 20], run], DAY), {})
    assert memory.told.keys() == {alert.subject for alert in [*found, run]}
    assert memory.after(found, [], DAY + timedelta(days=2)).keys() == memory.told.keys()
    assert memory.after(found[:1], [], DAY + timedelta(days=3)).keys() == {"refused/0"}


def test_what_was_refused_long_ago_is_not_even_read(place: Place) -> None:
    """The sensor looks every half minute, and a quarantine may hold thousands."""
    project, _ = load_project()
    [reason] = (place.data / "quarantine" / "orders").rglob("*.json")
    snapshot = look(project, utc.now())
    assert len(alerts(project, snapshot)) == 1
    reason.write_text("not looked into")
    at = utc.now() - timedelta(days=8)
    os.utime(reason, (at.timestamp(), at.timestamp()))
    assert alerts(project, snapshot) == []


def test_every_overdue_day_of_the_last_week_is_an_alert_of_its_own(place: Place) -> None:
    project, _ = load_project()
    today = steady.today()
    for before in (20, 4, 2):
        place.drop(f"{today - timedelta(days=before)}.csv", order_file(today - timedelta(days=before)))
    orders = next(spec for spec in project.sources if spec.name == "orders")
    strict = replace(project, sources=(replace(orders, deadline=time(0, 0), empty_days="missing"),))
    found, again = (alerts(strict, look(strict, utc.now())) for _ in range(2))
    overdue = [alert for alert in found if alert.subject.startswith("overdue/")]
    days = [today - timedelta(days=before) for before in (7, 6, 5, 3, 1)]
    assert [alert.day for alert in overdue] == days, "older days are no news, today is not over"
    assert [alert.subject for alert in overdue] == [f"overdue/orders/{day}" for day in days]
    assert again == found


@pytest.mark.long
def test_a_day_whose_last_attempt_failed_is_logged_once_and_turns_its_assets_red_until_it_is_right(
    place: Place, sensor: Sensor, capfd: pytest.CaptureFixture[str]
) -> None:
    first = sensor.tick()
    assert first and all(first.values()), "the first look tells of every asset"
    warnings(capfd)
    place.drop(f"{DAY}.csv", order_file(DAY, invoices=1))
    place.drained(expected_exit=1)
    assert place.etl("quarantine", "release", "--matching", f"{DAY}.csv").returncode == 0
    place.drained(expected_exit=1)  # The file is taken in; the table asks for its own rows.
    red = sensor.tick()
    downstream = {"orders", "daily_sales", "daily_customers", "daily_report"}
    assert {asset for asset, passed in red.items() if not passed} >= downstream
    [told] = [event for event in sensor.events if event.asset_key == dg.AssetKey("orders")]
    assert str(DAY) in str(told.description) and isinstance(told, dg.AssetCheckEvaluation) and told.check_name == CHECK
    assert sensor.tick() == {}, "nothing has changed"
    assert asked_by_hand(sensor.instance, "orders") is False and asked_by_hand(sensor.instance, "payments") is True
    lines = warnings(capfd)
    assert lines and len(lines) == len(set(lines)) and all("alert: run failed" in line for line in lines)
    assert any("would shrink from 10 to 2 rows" in line for line in lines)
    assert place.etl("drain", "--allow-shrink").returncode == 0
    green = sensor.tick()
    assert downstream <= green.keys() and all(green.values())
