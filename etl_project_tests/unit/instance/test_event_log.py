"""Dagster's event log with its files kept open: the same events, whoever reads them, and few open files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage

from etl_project.instance.event_log import OPEN_FILES, KeptOpenEventLogStorage

WRITER = """
import os, signal, sys
import dagster as dg
from dagster import AssetMaterialization
from etl_project.instance.event_log import KeptOpenEventLogStorage
storage = KeptOpenEventLogStorage(sys.argv[1])
with dg.instance_for_test() as instance:
    instance._event_storage = storage
    storage.register_instance(instance)
    for day in range(1, 21):
        event = AssetMaterialization("a", partition=f"2025-03-{day:02}")
        instance.report_runless_asset_event(event)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def materialized(storage: SqliteEventLogStorage) -> set[str]:
    with dg.instance_for_test() as instance:
        storage.register_instance(instance)
        return set(storage.get_materialized_partitions(dg.AssetKey("a")))


def test_a_killed_process_loses_no_event_and_dagsters_own_class_reads_them(tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WRITER, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -9, killed.stderr
    expected = {f"2025-03-{day:02}" for day in range(1, 21)}
    assert materialized(SqliteEventLogStorage(str(tmp_path))) == expected
    assert materialized(KeptOpenEventLogStorage(str(tmp_path))) == expected


def test_a_process_that_looks_at_many_runs_keeps_few_files_open(tmp_path: Path) -> None:
    storage = KeptOpenEventLogStorage(str(tmp_path))
    for number in range(20):
        storage.get_logs_for_run(f"run-{number}")
    targets = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path)]
    files = [target for target in targets if target.startswith(str(tmp_path)) and target.endswith(".db")]
    assert len(files) <= OPEN_FILES
    storage.dispose()
