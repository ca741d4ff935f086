"""The very first start: several processes at once, and a disk without room. The data folder is whole afterwards."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import pytest

from etl_project_tests.deployments import ROOT, Place, order_file

pytestmark = pytest.mark.long  # Each test starts the command several times.

DAY = date(2025, 3, 3)
DRAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell may have let the tests ignore it.
from etl_project.cli.main import main
main()
"""


@pytest.mark.parametrize("processes", [2, 4])
def test_first_drains_at_once_build_the_day_once_and_leave_a_folder_that_works(tmp_path: Path, processes: int) -> None:
    place = Place(tmp_path / "data")
    place.drop(f"orders-{DAY}.csv", order_file(DAY))
    with ThreadPoolExecutor(processes) as pool:
        ended = list(pool.map(lambda _: place.etl("drain"), range(processes)))
    assert all("Traceback" not in one.stderr for one in ended), ended
    assert place.query("select count(*) from orders") == [(6,)]
    assert "0 runs, 0 failed" in place.drained()
    status = place.etl("status")
    assert (status.returncode, status.stderr) == (0, "")
    assert place.etl("verify").returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(mounted)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no permission to mount a small file system here")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def test_a_full_disk_is_one_line_and_the_next_drain_with_room_goes_on(small_disk: Path) -> None:
    place = Place(small_disk)
    place.drop(f"orders-{DAY}.csv", order_file(DAY))
    for _ in range(2):
        done = place.etl("drain")
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert "Retrying helps once there is room" in line
        looked = place.etl("status")
        assert "Traceback" not in looked.stdout + looked.stderr
        assert looked.returncode == 0 or "Retrying helps once there is room" in looked.stderr
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    assert "0 failed" in place.drained()
    assert place.query("select count(*) from orders") == [(6,)]
    assert "0 runs, 0 failed" in place.drained()


def test_a_disk_that_is_full_by_now_is_one_line_from_every_command_and_costs_nothing(small_disk: Path) -> None:
    place = Place(small_disk)
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    place.drop(f"orders-{DAY}.csv", order_file(DAY))
    place.drained()
    place.drop(f"orders-{DAY + timedelta(days=1)}.csv", order_file(DAY + timedelta(days=1)))
    filler = small_disk / "filler"
    looks = (["status"], ["verify"], ["history", "orders", "--day", str(DAY)], ["retry"], ["contract", "plan"])
    for room, commands in ((0, (["drain"], *looks)), (300_000, (["drain"],))):
        filler.write_bytes(bytes(max(0, shutil.disk_usage(small_disk).free - room)))
        for command in commands:
            done = place.etl(*command)
            assert "Traceback" not in done.stdout + done.stderr, (command, done)
            assert done.returncode == 2 and "Retrying helps once there is room" in done.stderr.splitlines()[-1], done
        filler.unlink()
    assert "0 failed" in place.drained()
    assert place.query("select count(*) from orders") == [(12,)]
    assert place.etl("verify").returncode == 0


@pytest.mark.parametrize("name", ["wh?t", "line\nbreak"])
def test_a_data_folder_whose_name_cannot_be_used_is_one_line_and_is_not_made(tmp_path: Path, name: str) -> None:
    for command in ("drain", "status", "verify"):
        done = Place(tmp_path / name).etl(command)
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert line.startswith("etl: ETL_DATA_DIR=")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["it's {ours}; #1 [new] 100%", "ä"])
def test_a_data_folder_may_have_any_other_name(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path / name)
    place.drop(f"orders-{DAY}.csv", order_file(DAY))
    assert "0 failed" in place.drained()
    assert "0 runs, 0 failed" in place.drained()
    assert place.query("select count(*) from orders") == [(6,)]


def test_an_interrupt_at_any_moment_leaves_no_run_that_seems_to_go_on_and_the_next_drain_ends_the_work(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path / "data")
    place.drop(f"orders-{DAY}.csv", order_file(DAY))
    for pause in (0.0, 0.15, 0.6):
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", DRAIN, "drain"],
            cwd=ROOT,
            env=place.environment(PYTHONUNBUFFERED="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()  # "building ...": the run is about to be made.
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=240)
        assert process.returncode in (0, 1, 130), printed
        assert "Traceback" not in printed[1], printed
        looked = place.etl("status", "--json")
        outcomes = {run["outcome"] for run in json.loads(looked.stdout)["runs"]}
        assert outcomes <= {"canceled", "failure", "success"}, outcomes
    place.drained()
    assert place.query("select count(*) from orders") == [(6,)]
