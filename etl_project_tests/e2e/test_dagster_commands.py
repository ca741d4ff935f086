"""Dagster's own commands in the clone, with DAGSTER_HOME as the documentation says: they see the project's history."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import pytest

from etl_project_tests.deployments import ROOT, Place, order_file

DAY = date(2025, 3, 3)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("commands") / "data")
    made.drop(f"orders-{DAY}.csv", order_file(DAY))
    made.drained()
    return made


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "seen"),
    [
        (("run", "list"), "Job: build_days"),
        (("schedule", "list"), "Schedule: closed_day [RUNNING]"),
        (("sensor", "list"), "Sensor: pending_days [RUNNING]"),
    ],
)
def test_dagsters_lists_work_in_the_clone(place: Place, command: tuple[str, ...], seen: str) -> None:
    before = {path.name for path in ROOT.iterdir()}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "dagster", *command],
        cwd=ROOT,
        env=place.environment(DAGSTER_HOME=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and seen in done.stdout, done.stdout + done.stderr
    assert {path.name for path in ROOT.iterdir()} == before
