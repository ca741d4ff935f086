"""A write whose rows are looked at first, killed at any step: the day is the old one or the new one, and what waits
beside it is whole, or not there; the next write puts everything right."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from etl_project.storage.contract import Request, Scope, Store
from etl_project.storage.judging.messages import ChecksFailed
from etl_project.storage.judging.publishing import refusal
from etl_project_tests import postgres, s3
from etl_project_tests.contracts import world

TABLE = replace(world.TABLE, publish_after_checks=True)
DAY = world.days(1)
KEY = DAY.partitions[0].key
_OF_TABLES = ("after_claim", "between_delete_and_insert", "audited", "before_commit", "after_commit")
_OF_FILES = ("half_written", "audited", "before_rename", "after_rename")
ENGINES = ["duckdb", *(["ducklake", "postgres"] if postgres.SERVER else [])]
PASSING = [
    *((engine, f"{engine}.{step}") for engine in ENGINES for step in _OF_TABLES),
    *(("parquet", f"parquet.{step}") for step in _OF_FILES),
    *(("bucket", step) for step in ("parquet.audited", "bucket.before_put", "bucket.after_put") if s3.BUCKET),
]
FAILING = [
    *((engine, f"{engine}.{step}") for engine in ENGINES for step in ("before_candidate", "candidate_kept")),
    ("parquet", "parquet.candidate_said.before_rename"),
    ("parquet", "parquet.candidate_said.after_rename"),
    ("parquet", "parquet.before_candidate"),
    ("parquet", "parquet.candidate_kept"),
    *(("bucket", f"bucket.{step}") for step in ("before_candidate", "candidate_kept") if s3.BUCKET),
]
DONE = ("after_commit", "parquet.after_rename", "bucket.after_put", "candidate_kept")


def even_only(scope: Scope, store: Store) -> None:
    """Lets versions with an even number pass."""
    shown = set(store.arrow(store.read(TABLE, scope)).column("version").to_pylist())
    if any(version % 2 for version in shown):
        raise refusal(TABLE, scope, f"versions {sorted(shown)}")


def write(backend: str, folder: Path, version: int, fault: str = "") -> None:
    if fault:
        os.environ["ETL_FAULT"] = fault
    request = Request("a run", audit=even_only)
    world.open_store(backend, folder).replace(TABLE, DAY, world.rows(DAY, version), request)


def write_and_tell(backend: str, folder: Path, version: int, fault: str) -> None:
    try:
        write(backend, folder, version, fault)
    except ChecksFailed as failed:
        (folder / "told").write_text(str(failed))


def waiting(backend: str, folder: Path) -> list[int]:
    """The version of each candidate; fails for one that is torn."""
    store = world.open_store(backend, folder)
    found = []
    for one in store.candidates([TABLE.asset]):
        rows = store.arrow(store.read_candidate(TABLE, one.record.partition))
        [version] = set(rows.column("version").to_pylist())
        assert rows.num_rows == one.record.rows == world.ROWS
        assert one.reason in (f"versions [{version}]", "")
        found.append(int(version))
    return found


def there(backend: str, folder: Path) -> list[int]:
    return list(world.versions(backend, folder, DAY).values())


def write_day_and_candidate(backend: str, folder: Path) -> None:
    """Version 2 is the day, version 3 waits beside it."""
    write(backend, folder, 2)
    with pytest.raises(ChecksFailed):
        write(backend, folder, 3)


@pytest.mark.parametrize(("backend", "step"), PASSING)
def test_a_kill_while_passing_rows_are_published_leaves_the_old_day_or_the_new_one(
    backend: str, step: str, tmp_path: Path
) -> None:
    write_day_and_candidate(backend, tmp_path)
    assert world.finish(write, backend, tmp_path, 4, f"{step}=kill") == -signal.SIGKILL
    done = step.endswith(DONE)
    assert there(backend, tmp_path) == [4 if done else 2]
    assert waiting(backend, tmp_path) == ([] if done else [3])
    for _ in range(2):
        write(backend, tmp_path, 6)
        assert (there(backend, tmp_path), waiting(backend, tmp_path)) == ([6], [])
    assert world.leftovers(tmp_path) == []


@pytest.mark.parametrize(("backend", "step"), FAILING)
def test_a_kill_while_failing_rows_are_kept_leaves_the_day_and_one_whole_candidate(
    backend: str, step: str, tmp_path: Path
) -> None:
    write_day_and_candidate(backend, tmp_path)
    assert world.finish(write, backend, tmp_path, 5, f"{step}=kill") == -signal.SIGKILL
    assert there(backend, tmp_path) == [2]
    assert waiting(backend, tmp_path) == [5 if step.endswith(DONE) else 3]
    for _ in range(2):
        with pytest.raises(ChecksFailed):
            write(backend, tmp_path, 7)
        assert (there(backend, tmp_path), waiting(backend, tmp_path)) == ([2], [7])
    write(backend, tmp_path, 8)
    assert (there(backend, tmp_path), waiting(backend, tmp_path)) == ([8], [])
    assert world.leftovers(tmp_path) == []


@pytest.mark.parametrize("backend", ["duckdb", "parquet"])
def test_a_full_disk_while_failing_rows_are_kept_is_told_and_leaves_the_day(backend: str, tmp_path: Path) -> None:
    write(backend, tmp_path, 2)
    assert world.finish(write_and_tell, backend, tmp_path, 3, f"{backend}.before_candidate=full") == 0
    assert "could not be kept as a candidate" in (told := (tmp_path / "told").read_text()) and "No space left" in told
    assert (there(backend, tmp_path), waiting(backend, tmp_path)) == ([2], [])
    write(backend, tmp_path, 4)
    assert there(backend, tmp_path) == [4]
    assert world.leftovers(tmp_path) == []
