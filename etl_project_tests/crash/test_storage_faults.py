"""A write that stops at any named step leaves whole days, and the next one ends as if nothing had happened."""

from __future__ import annotations

import random
import resource
import signal
from pathlib import Path

import pyarrow as pa
import pytest

from etl_project.storage.contract import Request
from etl_project_tests import postgres, s3
from etl_project_tests.contracts import world

STEPS = {
    "duckdb": ["duckdb.after_claim", "duckdb.between_delete_and_insert", "duckdb.before_commit", "duckdb.after_commit"],
    "parquet": ["parquet.half_written", "parquet.before_rename", "parquet.after_rename"],
}
if postgres.SERVER:
    STEPS |= {name: [step.replace("duckdb", name) for step in STEPS["duckdb"]] for name in ("ducklake", "postgres")}
if s3.BUCKET:
    STEPS["bucket"] = ["parquet.half_written", "bucket.before_put", "bucket.after_put"]
KILLED = -signal.SIGKILL
DAYS = world.days(3)
AFTER = (
    "duckdb.after_commit",
    "ducklake.after_commit",
    "postgres.after_commit",
    "parquet.after_rename",
    "bucket.after_put",
)


@pytest.mark.parametrize("kind", ["kill", "error", "full"])
@pytest.mark.parametrize(("backend", "step"), [(backend, step) for backend, steps in STEPS.items() for step in steps])
def test_a_write_stopped_at_a_step_changes_whole_days_or_nothing(
    backend: str, step: str, kind: str, tmp_path: Path
) -> None:
    world.write(backend, tmp_path, DAYS, 1)
    nth = ":2" if backend in ("parquet", "bucket") else ""
    code = world.finish(world.write, backend, tmp_path, DAYS, 2, f"{step}{nth}={kind}")
    there = list(world.versions(backend, tmp_path, DAYS).values())
    world.records_agree(backend, tmp_path, DAYS)
    if kind == "kill":
        assert code == KILLED
    elif step in AFTER:
        assert code == 0, "the commit record says that it happened"
    else:
        assert code == 1
    if backend in ("duckdb", "ducklake", "postgres"):
        assert there == [2 if step in AFTER else 1] * 3
    elif code != 0:
        assert there == ([2, 2, 1] if step in AFTER else [2, 1, 1])
    world.write(backend, tmp_path, DAYS, 2)
    assert list(world.versions(backend, tmp_path, DAYS).values()) == [2, 2, 2]
    assert world.leftovers(tmp_path) == []


@pytest.mark.parametrize(("backend", "step"), [(backend, step) for backend, steps in STEPS.items() for step in steps])
def test_a_first_write_that_is_killed_is_as_if_it_had_never_been_or_whole(
    backend: str, step: str, tmp_path: Path
) -> None:
    one = world.days(1)
    assert world.finish(world.write, backend, tmp_path, one, 1, f"{step}=kill") == KILLED
    assert list(world.versions(backend, tmp_path, one).values()) == ([1] if step in AFTER else [])
    world.write(backend, tmp_path, one, 1)
    world.write(backend, tmp_path, one, 1)
    assert list(world.versions(backend, tmp_path, one).values()) == [1]
    assert world.leftovers(tmp_path) == []


def test_a_database_whose_making_is_killed_is_made_by_the_next_writer(tmp_path: Path) -> None:
    one = world.days(1)
    assert world.finish(world.write, "duckdb", tmp_path, one, 1, "duckdb.file_made=kill") == KILLED
    assert list(tmp_path.rglob("*.duckdb")) == [], "no half-made file is in anybody's way"
    world.write("duckdb", tmp_path, one, 1)
    assert list(world.versions("duckdb", tmp_path, one).values()) == [1]


# The disk of a PostgreSQL database is its server's.
@pytest.mark.parametrize("backend", [name for name in STEPS if name != "postgres"])
def test_a_disk_that_ends_in_the_middle_leaves_the_old_rows(backend: str, tmp_path: Path) -> None:
    one = world.days(1)
    world.write(backend, tmp_path, one, 1)
    size = max(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    code = world.finish(write_much, backend, tmp_path, size + 4096)
    assert code == 1
    assert list(world.versions(backend, tmp_path, one).values()) == [1]
    world.write(backend, tmp_path, one, 2)
    assert list(world.versions(backend, tmp_path, one).values()) == [2]
    assert world.leftovers(tmp_path) == []


def write_much(backend: str, folder: Path, file_size: int) -> None:
    """More rows than fit in a file of that size, with numbers that no encoding makes small."""
    one = world.days(1)
    rows = world.rows(one, 9, rows_a_day=200_000)
    numbers = pa.array(random.Random(1).sample(range(2**31), 200_000), pa.int32())
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    world.open_store(backend, folder).replace(world.TABLE, one, rows.set_column(1, "n", numbers), Request("a run"))
