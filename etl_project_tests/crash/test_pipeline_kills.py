"""SIGKILL at every named step of a real drain: the next drain ends in the same rows as an undisturbed run."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from etl_project_tests.deployments import Place, order_file

BEFORE = [date(2025, 3, 3), date(2025, 3, 4)]
NEW = date(2025, 3, 5)

KILLS = {
    "between archive and removal from incoming": "incoming.after_archive",
    "with the file claimed but not removed": "incoming.after_claim",
    "after removal, before the raw commit": "incoming.after_removal",
    "with the raw file written but not in place": "parquet.before_rename",
    "between the raw commit of one day and of the next": "parquet.after_rename",
    "between the raw commits and the first table": "parquet.after_rename:2",
    "between delete and insert": "duckdb.between_delete_and_insert",
    "before the commit": "duckdb.before_commit",
    "after the commit, before Dagster's event": "duckdb.after_commit",
    "between the 1st and the 2nd table": "duckdb.after_commit:2",
    "between the 2nd and the 3rd table": "duckdb.after_commit:3",
    "between the 3rd and the 4th table": "duckdb.after_commit:4",
    "before the commit of the last table": "duckdb.before_commit:5",
}
LIKE_OTHERS = {
    *("incoming.after_claim", "incoming.after_removal", "parquet.after_rename", "duckdb.before_commit"),
    *("duckdb.after_commit:2", "duckdb.after_commit:3", "duckdb.before_commit:5"),
}
"""Steps beside one that is tried anyway, or of another table: for `make long`. Each is also tried by itself, with its
store or with its drop folder alone, by the other tests of kills."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two days built, then a new day and a correction waiting."""
    place = Place(tmp_path_factory.mktemp("prepared"))
    for day in BEFORE:
        place.drop(f"orders-{day}.csv", order_file(day))
    place.drained()
    place.drop(f"orders-{NEW}.csv", order_file(NEW, invoices=4))
    place.drop(f"orders-{BEFORE[1]}.csv", order_file(BEFORE[1], invoices=5, price="3.75"))
    return place


@pytest.fixture(scope="module")
def undisturbed(
    prepared: Place, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, list[tuple[object, ...]]]]:
    """What a run that nobody disturbs ends in."""
    place = copy_of(prepared, tmp_path_factory.mktemp("undisturbed"))
    place.drained()
    yield place.tables()


def copy_of(place: Place, target: Path) -> Place:
    shutil.rmtree(target)
    shutil.copytree(place.data, target)  # mtimes come along, so the same files wait.
    return Place(target)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=name, marks=[pytest.mark.long] if fault in LIKE_OTHERS else [])
        for name, fault in KILLS.items()
    ],
)
def test_a_kill_is_harmless(
    fault: str, prepared: Place, undisturbed: dict[str, list[tuple[object, ...]]], tmp_path: Path
) -> None:
    place = copy_of(prepared, tmp_path)
    killed = place.etl("drain", ETL_FAULT=f"{fault}=kill")
    assert killed.returncode == -signal.SIGKILL, f"the step was not reached:\n{killed.stdout}\n{killed.stderr}"
    place.drained()
    assert place.tables() == undisturbed
    assert not place.leftovers()
    assert not [path for path in place.incoming.iterdir() if path.is_file()]
    commits = place.last_commits()
    place.drained()
    assert place.last_commits() == commits, "a drain with nothing to do commits nothing"


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("full", "duckdb.between_delete_and_insert"),
        ("full", "parquet.before_rename"),
        pytest.param("full", "incoming.after_archive", marks=pytest.mark.long),
        pytest.param("error", "duckdb.between_delete_and_insert", marks=pytest.mark.long),
        pytest.param("error", "parquet.before_rename", marks=pytest.mark.long),
        pytest.param("error", "incoming.after_archive", marks=pytest.mark.long),
    ],
)
def test_a_full_disk_or_an_io_error_is_harmless_too(
    fault: str, kind: str, prepared: Place, undisturbed: dict[str, list[tuple[object, ...]]], tmp_path: Path
) -> None:
    place = copy_of(prepared, tmp_path)
    failed = place.etl("drain", ETL_FAULT=f"{fault}={kind}")
    assert failed.returncode == 1, f"{failed.stdout}\n{failed.stderr}"
    place.drained()
    assert place.tables() == undisturbed
    assert not place.leftovers()
