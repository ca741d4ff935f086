"""Dagster's event log with its files kept open: the same events, whoever reads them, and few open files."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from etl_project import utc
from etl_project.instance import home
from etl_project.instance.event_log import OPEN_FILES, KeptOpenEventLogStorage
from etl_project_tests.deployments import ROOT

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


DAYS = dg.DailyPartitionsDefinition(start_date="2025-03-01", end_date="2025-03-04")


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def top(context) -> None:  # type: ignore[no-untyped-def]
    context.log_event(dg.AssetMaterialization("top", partition="2025-03-01"))
    raise dg.Failure("two days are missing")


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run(), deps=[top])
def below() -> None: ...


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def beside() -> None:
    raise dg.Failure("on its own")


def test_a_day_that_fails_at_the_top_is_not_failed_in_tables_that_the_run_never_came_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    tags = utc.run_tags(date(2025, 3, 1), date(2025, 3, 3))
    with home.opened(ROOT) as instance:

        def failed(asset: str) -> set[str]:
            cached = get_and_update_asset_status_cache_value(instance, dg.AssetKey(asset), DAYS)
            assert cached is not None
            return set(cached.deserialize_failed_partition_subsets(DAYS).get_partition_keys())

        for _ in range(2):
            assert not dg.materialize([top, below, beside], tags=tags, instance=instance, raise_on_error=False).success
            assert failed("top") == {"2025-03-02", "2025-03-03"}
            assert failed("beside") == {"2025-03-01", "2025-03-02", "2025-03-03"}
            assert failed("below") == set()
