"""Dagster's event log with its files kept open: the same events, whoever reads them, and few open files."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from alembic.script import ScriptDirectory
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.events import ASSET_CHECK_EVENTS, AssetMaterializationPlannedData, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from sqlalchemy import create_engine, event
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import IntegrityError

from etl_project import utc
from etl_project.instance import event_log, home
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


def events_of_a_run(count: int) -> list[EventLogEntry]:
    """What a range run stores: planned days of two assets, their materializations with a data version each, checks."""
    made: list[EventLogEntry] = []
    for n in range(count):
        for asset in ("a", "b"):
            key, day = dg.AssetKey(asset), f"2025-03-{n + 1:02}"
            planned = AssetMaterializationPlannedData(asset_key=key, partition=day)
            tags = {DATA_VERSION_TAG: f"{asset}{n}"}
            done = StepMaterializationData(dg.AssetMaterialization(asset, partition=day, tags=tags), [])
            kinds = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, dg.DagsterEventType.ASSET_MATERIALIZATION
            for kind, data in zip(kinds, (planned, done), strict=True):
                event = dg.DagsterEvent(kind.value, "job", step_key=asset, event_specific_data=data)
                made.append(EventLogEntry(None, 10, "", "run", 1e9 + len(made), asset, "job", event))
            of = (
                AssetCheckEvaluationTargetMaterializationData(storage_id=n, run_id="run", timestamp=1e9)
                if n < 2
                else None
            )
            found = dg.AssetCheckEvaluation(key, "sound", n % 2 == 0, {}, of, partition=day)
            event = dg.DagsterEvent("ASSET_CHECK_EVALUATION", "job", step_key=asset, event_specific_data=found)
            made.append(EventLogEntry(None, 10, "", "run", 1e9 + len(made), asset, "job", event))
    return [*checks_planned(count), *made]


def of_no_partition(run: str = "run") -> list[EventLogEntry]:
    """What two checks say of a whole table, planned by nobody."""
    made = []
    for asset in ("a", "b"):
        found = dg.AssetCheckEvaluation(dg.AssetKey(asset), "whole", passed=True, metadata={})
        event = dg.DagsterEvent("ASSET_CHECK_EVALUATION", "job", step_key=asset, event_specific_data=found)
        made.append(EventLogEntry(None, 10, "", run, 2e9, asset, "job", event))
    return made


def checks_planned(count: int) -> list[EventLogEntry]:
    """As Dagster plans a check: once for all days of the run."""
    days = DAYS.subset_with_partition_keys(
        [f"2025-03-{n + 1:02}" for n in range(min(count, 3))]
    ).to_serializable_subset()
    made = []
    for asset in ("a", "b"):
        planned = AssetCheckEvaluationPlanned(asset_key=dg.AssetKey(asset), check_name="sound", partitions_subset=days)
        event = dg.DagsterEvent("ASSET_CHECK_EVALUATION_PLANNED", "job", step_key=asset, event_specific_data=planned)
        made.append(EventLogEntry(None, 10, "", "run", 5e8, asset, "job", event))
    return made


def everything(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables that events are stored in, without the moments of their storing."""
    found = {}
    of_index = "event_logs", "asset_keys", "asset_event_tags", "asset_check_executions"
    for file, table in (("run", "event_logs"), *(("index", table) for table in of_index)):
        with closing(sqlite3.connect(folder / f"{file}.db")) as db:
            rows = db.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
            columns = [column[1] for column in db.execute(f"PRAGMA table_info({table})")]
            keep = [n for n, name in enumerate(columns) if name not in ("create_timestamp", "cached_status_data")]
            found[f"{file}.{table}"] = [tuple(row[n] for n in keep) for row in rows]
    return found


@pytest.mark.parametrize("returns_ids", [True, False])
def test_a_batch_leaves_the_same_rows_as_its_events_one_by_one_in_dagsters_own_class(
    returns_ids: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not returns_ids:  # SQLite before 3.35.
        monkeypatch.setattr(SQLiteDialect_pysqlite, "insert_returning", False)
        monkeypatch.setattr(event_log, "_INSERTED", None)
    batch = events_of_a_run(20)
    own, ours = SqliteEventLogStorage(str(tmp_path / "own")), KeptOpenEventLogStorage(str(tmp_path / "ours"))
    for storage in (own, ours):
        with dg.instance_for_test() as instance:
            storage.register_instance(instance)
            storage.store_event_batch(batch)
            again = [one for one in batch if one.dagster_event_type not in ASSET_CHECK_EVENTS]
            storage.store_event_batch(again)  # As after a batch that could not be stored: each is there twice.
            for one in batch[-3:]:
                storage.store_event(one)
            said_again = [one for one in batch if one.dagster_event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION]
            storage.store_event_batch([*said_again, *of_no_partition(), *of_no_partition(), *said_again])
            storage.store_event_batch([*of_no_partition(""), *of_no_partition("")])  # Of no run: each for itself.
    expected, found = everything(tmp_path / "own"), everything(tmp_path / "ours")
    assert len(expected["index.event_logs"]) == 122 + 80 + 3 + 84 + 4 and len(expected["index.asset_event_tags"]) == 81
    assert len(expected["index.asset_check_executions"]) == 40 + 2 + 4
    assert found == expected


def test_a_result_of_a_check_that_was_planned_twice_is_refused_as_by_dagsters_own_class(tmp_path: Path) -> None:
    [whole, _] = of_no_partition()
    planned = AssetCheckEvaluationPlanned(asset_key=dg.AssetKey("a"), check_name="whole")
    event = dg.DagsterEvent("ASSET_CHECK_EVALUATION_PLANNED", "job", step_key="a", event_specific_data=planned)
    twice = [EventLogEntry(None, 10, "", "run", 1e9, "a", "job", event)] * 2
    for kind in (SqliteEventLogStorage, KeptOpenEventLogStorage):
        storage = kind(str(tmp_path / kind.__name__))
        with dg.instance_for_test() as instance:
            storage.register_instance(instance)
            storage.store_event_batch(twice)
            with pytest.raises(dg.DagsterInvariantViolationError, match="duplicate"):
                storage.store_event_batch([whole])


def test_results_are_looked_for_by_the_whole_of_an_index_however_many_runs_there_were(tmp_path: Path) -> None:
    storage, asked = KeptOpenEventLogStorage(str(tmp_path)), list[str]()
    with dg.instance_for_test() as instance:
        storage.register_instance(instance)
        storage.store_event_batch(checks_planned(1))
        with storage.index_connection() as index:
            event.listen(index.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
        storage.store_event_batch(events_of_a_run(1)[len(checks_planned(1)) :])
    of_checks = [one for one in asked if "asset_check_executions" in one and not one.startswith("INSERT")]
    assert len(of_checks) == 2  # What was planned, and the results that take its place.
    with closing(sqlite3.connect(tmp_path / "index.db")) as db:
        for one in of_checks:
            [(*_, how)] = db.execute(f"EXPLAIN QUERY PLAN {one}", ["x"] * one.count("?")).fetchall()
            assert "asset_key=? AND check_name=? AND run_id=?" in how


def test_a_check_that_is_planned_after_its_result_is_refused_as_by_dagsters_own_class(tmp_path: Path) -> None:
    said = events_of_a_run(1)[len(checks_planned(1)) :]
    for kind in (SqliteEventLogStorage, KeptOpenEventLogStorage):
        storage = kind(str(tmp_path / kind.__name__))
        with dg.instance_for_test() as instance:
            storage.register_instance(instance)
            with pytest.raises(IntegrityError, match="UNIQUE"):
                storage.store_event_batch([*said, *checks_planned(1)])


def schema(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Tables with their columns, indexes and the stamp, however the statements were written."""
    with closing(sqlite3.connect(path)) as db:
        names = db.execute("SELECT type, name, tbl_name FROM sqlite_master ORDER BY name").fetchall()
        tables = [name for kind, name, _ in names if kind == "table"]
        columns = {table: db.execute(f'PRAGMA table_info("{table}")').fetchall() for table in tables}
        stamps = db.execute("SELECT * FROM alembic_version").fetchall()
        return {**columns, "": names, "stamps": stamps, "journal": db.execute("PRAGMA journal_mode").fetchall()}


def test_the_file_of_the_second_run_is_made_like_that_of_the_first_without_reading_migrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = KeptOpenEventLogStorage(str(tmp_path))
    assert storage.get_logs_for_run("first") == []
    monkeypatch.setattr(ScriptDirectory, "_load_revisions", no_migrations)
    assert storage.get_logs_for_run("second") == []
    assert schema(tmp_path / "second.db") == schema(tmp_path / "first.db")
    monkeypatch.undo()
    assert SqliteEventLogStorage(str(tmp_path)).get_logs_for_run("second") == []  # Stamped, so nothing to migrate.


def test_a_file_that_somebody_else_has_made_meanwhile_is_left_as_it_is(tmp_path: Path) -> None:
    """Both have found it empty; the second comes to its turn when the first is done."""
    engine = create_engine(f"sqlite:///{tmp_path / 'run.db'}")
    event_log._make(engine, "a stamp")
    before = schema(tmp_path / "run.db")
    event_log._make(engine, "another stamp")
    assert schema(tmp_path / "run.db") == before
    assert event_log._stamp_of(engine) == "a stamp"


KILLED_IN_A_BATCH = """
import os, signal, sys
import dagster as dg
from etl_project.instance.event_log import KeptOpenEventLogStorage
from etl_project_tests.unit.instance.test_event_log import events_of_a_run
storage = KeptOpenEventLogStorage(sys.argv[1])
with dg.instance_for_test() as instance:
    storage.register_instance(instance)
    storage.store_event_batch(events_of_a_run(2))
    storage._store_results = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    storage.store_event_batch(events_of_a_run(3)[2:])
"""


def test_a_kill_within_a_batch_leaves_what_was_there_before_it(tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED_IN_A_BATCH, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert killed.returncode == -9, killed.stderr
    storage, before = SqliteEventLogStorage(str(tmp_path)), events_of_a_run(2)
    assert [one.timestamp for one in storage.get_logs_for_run("run")] == [one.timestamp for one in before]
    left = everything(tmp_path)
    assert len(left["run.event_logs"]) == len(left["index.event_logs"]) == len(before)
    assert len(left["index.asset_check_executions"]) == 4


def test_events_of_other_kinds_among_them_are_stored_too_and_in_order(tmp_path: Path) -> None:
    storage = KeptOpenEventLogStorage(str(tmp_path))
    start = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, "job")
    other = EventLogEntry(None, 10, "", "run", 1e9, None, "job", start)
    mixed = [other, *events_of_a_run(1), other, *events_of_a_run(1)[len(checks_planned(1)) :]]
    with dg.instance_for_test() as instance:
        storage.register_instance(instance)
        storage.store_event_batch(mixed)
    assert [(e.dagster_event_type, e.step_key) for e in storage.get_logs_for_run("run")] == [
        (e.dagster_event_type, e.step_key) for e in mixed
    ]


def test_a_batch_whose_second_file_cannot_be_written_leaves_nothing_in_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, batch = KeptOpenEventLogStorage(str(tmp_path)), events_of_a_run(3)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with dg.instance_for_test() as instance:
        storage.register_instance(instance)
        with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
            patched.setattr(storage, "_store_asset_event_tags", full)
            storage.store_event_batch(batch)
        for one in batch:  # What Dagster does then.
            storage.store_event(one)
    found = everything(tmp_path)
    assert len(found["run.event_logs"]) == len(found["index.event_logs"]) == len(batch)


def no_migrations(*_: object) -> None:
    pytest.fail("Dagster's migrations were read, which takes longer than the rest of a tick")


def test_opening_the_history_reads_no_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with home.opened() as instance:
        ref = instance.get_ref()

    monkeypatch.setattr(ScriptDirectory, "_load_revisions", no_migrations)
    with dg.DagsterInstance.from_ref(ref) as instance:
        assert instance.get_runs() == []
        assert instance.get_latest_materialization_event(dg.AssetKey("a")) is None
        assert instance.all_instigator_state() == []
