"""Dagster's SQLite files: sound after any number of first starts at once, after a kill, and after an older version."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from etl_project.instance import history_files
from etl_project_tests.deployments import ROOT
from etl_project_tests.forks import FORKS

WAIT_SECONDS = 240
OLDER_STAMP = "5771160a95ad"
FIRST_START = """
import sys, time
from pathlib import Path
from etl_project.instance import history_files
while time.time() < float(sys.argv[2]):
    pass
history_files.prepare(Path(sys.argv[1]), 120)
"""


def first_start(folder: str, at: float) -> None:
    """A process that starts on the folder at an instant."""
    while time.time() < at:
        pass
    history_files.prepare(Path(folder), WAIT_SECONDS)
    with dg.DagsterInstance.local_temp(tempdir=str(Path(folder).parent), overrides=overrides(folder)) as instance:
        instance.create_run_for_job(an_empty_job())


def overrides(folder: str) -> dict[str, object]:
    return {"storage": {"sqlite": {"base_dir": folder}}}


def an_empty_job() -> dg.JobDefinition:
    @dg.job
    def nothing() -> None: ...

    return nothing


def runs_in(folder: Path) -> int:
    with dg.DagsterInstance.local_temp(tempdir=str(folder.parent), overrides=overrides(str(folder))) as instance:
        return len(instance.get_runs())


def stamps(folder: Path) -> dict[str, list[str]]:
    found = {}
    for name in history_files.FILES:
        with closing(sqlite3.connect(folder / name)) as db:
            found[name] = [stamp for (stamp,) in db.execute("SELECT version_num FROM alembic_version")]
    return found


def start_together(folder: Path, processes: int) -> None:
    folder.parent.mkdir(exist_ok=True)
    at = time.time() + 0.3
    started = [FORKS.Process(target=first_start, args=(str(folder), at)) for _ in range(processes)]
    for process in started:
        process.start()
    for process in started:
        process.join(WAIT_SECONDS)
    assert [process.exitcode for process in started] == [0] * processes


@pytest.mark.parametrize(
    ("rounds", "processes"),
    [
        pytest.param(3, 2, id="3 pairs"),
        pytest.param(20, 2, id="20 pairs", marks=pytest.mark.long),
        pytest.param(5, 4, id="5 quartets", marks=pytest.mark.long),
    ],
)
def test_first_processes_that_start_at_once_leave_sound_files_and_all_their_runs(
    tmp_path: Path, rounds: int, processes: int
) -> None:
    for number in range(rounds):
        folder = tmp_path / str(number) / "storage"
        start_together(folder, processes)
        assert {len(found) for found in stamps(folder).values()} == {1}
        assert runs_in(folder) == processes
        start_together(folder, processes)
        assert runs_in(folder) == 2 * processes


@pytest.mark.parametrize("name", history_files.FILES)
def test_a_file_that_two_processes_of_an_earlier_version_stamped_is_mended_and_keeps_its_history(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "storage"
    first_start(str(folder), 0)
    before = stamps(folder)
    with closing(sqlite3.connect(folder / name)) as db, db:
        db.execute("INSERT INTO alembic_version VALUES (?)", (OLDER_STAMP,))
    with (
        pytest.raises(Exception, match="more than one head"),
        dg.DagsterInstance.local_temp(tempdir=str(folder.parent), overrides=overrides(str(folder))) as instance,
    ):
        instance.get_event_records(dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION))
    for _ in range(2):
        history_files.prepare(folder, WAIT_SECONDS)
        assert stamps(folder) == before
        assert runs_in(folder) == 1


@pytest.mark.parametrize("name", history_files.FILES)
def test_a_file_that_a_kill_left_without_tables_is_completed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "storage"
    history_files.prepare(folder, WAIT_SECONDS)
    (folder / name).unlink()
    (folder / name).touch()
    history_files.prepare(folder, WAIT_SECONDS)
    assert history_files._sound(folder)
    first_start(str(folder), 0)
    assert runs_in(folder) == 1


def test_a_kill_while_the_files_are_made_leaves_none_and_the_next_start_makes_them(tmp_path: Path) -> None:
    folder = tmp_path / "storage"
    killed = subprocess.run(
        [sys.executable, "-c", FIRST_START, str(folder), "0"],
        env={**os.environ, "ETL_FAULT": "history.made=kill"},
        cwd=ROOT,
        check=False,
    )
    assert killed.returncode == -9
    assert not folder.exists()
    first_start(str(folder), 0)
    assert runs_in(folder) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["storage", "storage.lock"]


def test_a_process_that_was_stopped_while_it_makes_the_files_is_named_after_the_wait(tmp_path: Path) -> None:
    folder = tmp_path / "storage"
    with (
        history_files._alone(tmp_path / "storage.lock", 1),
        pytest.raises(history_files.HistoryBusy, match="retrying helps"),
    ):
        history_files.prepare(folder, 0.2)
    assert not folder.exists()


def test_a_damaged_file_is_one_line_that_says_retrying_does_not_help(tmp_path: Path) -> None:
    folder = tmp_path / "storage"
    history_files.prepare(folder, WAIT_SECONDS)
    (folder / "history" / "runs.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(history_files.HistoryUnusable, match="move the folder away"):
        history_files.prepare(folder, WAIT_SECONDS)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 300 kB of room."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(mounted)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no permission to mount a small file system here")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def test_files_that_do_not_fit_on_the_disk_are_one_retryable_line_and_are_made_once_there_is_room(
    small_disk: Path,
) -> None:
    folder = small_disk / "storage"
    filler = small_disk / "filler"
    filler.write_bytes(bytes(200_000))
    with pytest.raises(history_files.HistoryUnavailable, match=r"MB are free there.*Retrying helps once there is room"):
        history_files.prepare(folder, WAIT_SECONDS)
    subprocess.run(["mount", "-o", "remount,size=3m", str(small_disk)], check=True)
    first_start(str(folder), 0)
    assert runs_in(folder) == 1
