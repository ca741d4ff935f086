"""ETL_LOG_FORMAT=json: every record is one line of JSON, every commit is one of them, and no secret is in any."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etl_project.instance.json_lines import JsonFormatter
from etl_project.settings import SettingsError, log_format
from etl_project_tests.deployments import ROOT, Place, order_file

pytestmark = pytest.mark.long  # Each test starts the command several times.

DAY = date(2025, 3, 3)
TABLES = {"raw_orders", "orders", "orders_rejects", "daily_sales", "daily_customers", "daily_report"}


def lines(text: str) -> list[dict[str, Any]]:
    """What was logged; every line has to be JSON."""
    return [json.loads(line) for line in text.splitlines()]


def test_a_drain_logs_every_commit_once_as_one_line_with_what_it_did(tmp_path: Path) -> None:
    place = Place(tmp_path / "data")
    place.drop(f"{DAY}.csv", order_file(DAY))
    place.drop(f"{DAY + timedelta(days=1)}.csv", order_file(DAY + timedelta(days=1)))
    done = place.etl("drain", ETL_LOG_FORMAT="json")
    assert done.returncode == 0 and "1 runs, 0 failed" in done.stdout
    commits = [line for line in lines(done.stderr) if line["message"] == "commit"]
    expected = [(asset, str(DAY + timedelta(days=n))) for asset in TABLES for n in (0, 1)]
    assert sorted((line["asset"], line["day"]) for line in commits) == sorted(expected)
    stored = place.last_commits()
    for line in commits:
        assert (line["level"], line["rows_before"], line["changed"]) == ("INFO", 0, True)
        assert (
            len(line["input_hash"]) == 64 and line["run_id"] and line["step"] and line["days"] == f"{DAY}...2025-03-04"
        )
        assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
        if line["asset"] != "raw_orders":
            assert stored[line["asset"], line["day"]][1] == line["fingerprint"]
    assert lines(place.etl("drain", ETL_LOG_FORMAT="json").stderr) == [], "nothing was done, nothing is logged"


def test_a_failed_step_is_one_line_with_its_error_and_the_default_stays_as_it_is(tmp_path: Path) -> None:
    place = Place(tmp_path / "data")
    place.drop(f"{DAY}.csv", order_file(DAY, invoices=5))
    assert all(line.startswith("    ") for line in place.etl("drain").stderr.splitlines()), "nothing but progress"
    place.drop_released(f"{DAY}.csv", order_file(DAY, invoices=1))
    done = place.etl("drain", ETL_LOG_FORMAT="json")
    errors = [line for line in lines(done.stderr) if line["level"] == "ERROR" and line.get("step") == "orders"]
    assert done.returncode == 1 and any("would shrink from 10 to 2 rows" in line["error"] for line in errors)


def test_runs_from_the_ui_that_name_no_logger_and_ticks_log_json_too(tmp_path: Path) -> None:
    script = """
import dagster as dg
from etl_project.definitions import build_defs
from etl_project.utc import run_tags
from datetime import date
build_defs()
@dg.op
def talks(context):
    context.log.info("two\\nlines")
    context.log.debug("not now")
@dg.job
def job():
    talks()
job.execute_in_process()
@dg.sensor(job=job)
def looks(context):
    context.log.warning("a tick")
looks(dg.build_sensor_context(repository_def=dg.Definitions(jobs=[job], sensors=[looks]).get_repository_def()))
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    place = Place(tmp_path / "data")
    for form, expected in (("json", True), ("text", False)):
        done = subprocess.run(
            command, cwd=ROOT, env=place.environment(ETL_LOG_FORMAT=form), capture_output=True, text=True, check=True
        )
        assert ("two\\nlines" in done.stderr) is expected
        if expected:
            [line] = [line for line in lines(done.stderr) if line["message"] == "two\nlines"]
            assert (line["job"], line["step"]) == ("job", "talks")
            assert [line["level"] for line in lines(done.stderr) if line["message"] == "a tick"] == ["WARNING"]


def test_a_command_that_gives_up_says_why_in_the_form_that_was_asked_for(tmp_path: Path) -> None:
    place = Place(tmp_path / "data")
    [line] = lines(place.etl("status", "no_such", ETL_LOG_FORMAT="json").stderr)
    assert line["level"] == "ERROR" and "There is no stored asset 'no_such'" in line["message"]
    wrong = place.etl("status", ETL_LOG_FORMAT="xml")
    assert (wrong.returncode, wrong.stderr) == (2, "etl: ETL_LOG_FORMAT='xml' is no log format; write text or json.\n")
    with pytest.raises(SettingsError):
        log_format({"ETL_LOG_FORMAT": "JSON"})


def test_secrets_of_the_environment_are_in_no_line() -> None:
    secrets = {
        "ETL_DELIVERY_TOKEN": "s3cret-token",
        "ETL_RECEIVER_TOKEN_SHOP": 'quo"ted-secret',
        "ETL_DELIVERY_URL": "https://hooks.example.org/T0P/SECRET",
    }
    formatter = JsonFormatter({**secrets, "HOME": "/home/me", "EMPTY_TOKEN": ""})
    try:
        raise ValueError(f"refused {secrets['ETL_DELIVERY_TOKEN']}")
    except ValueError:
        error = sys.exc_info()
    text = "posted to %s with %s and %s from /home/me"
    arguments = tuple(secrets.values())
    line = formatter.format(logging.LogRecord("a", logging.INFO, "f", 1, text, arguments, error))
    assert not any(secret in line or json.dumps(secret)[1:-1] in line for secret in secrets.values())
    assert json.loads(line)["message"] == "posted to *** with *** and *** from /home/me"
    assert "ValueError: refused ***" in json.loads(line)["error"]
