"""Making the database file: what goes wrong is retryable, and what a kill left is gone after the next making."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from etl_project import atomic
from etl_project.storage.contract import StoreUnavailable
from etl_project.storage.engines.duckdb_file import DuckDBFile


def make(path: Path) -> None:
    with DuckDBFile(path, {}).writing(0) as connection:
        connection.execute("SELECT 1")


def test_a_folder_that_cannot_be_made_is_a_retryable_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="retrying helps"):
        make(tmp_path / "file" / "w.duckdb")


@pytest.mark.parametrize("kind", ["error", "full"])
def test_a_disk_that_fails_while_the_file_is_made_is_a_retryable_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("ETL_FAULT", f"duckdb.file_made={kind}")
    monkeypatch.setattr("etl_project.faults._reached", iter([1]))
    with pytest.raises(StoreUnavailable):
        make(tmp_path / "w.duckdb")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_making_left_is_removed_and_one_that_is_under_way_is_not(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    old, young = (atomic.temporary_sibling(path) for _ in range(2))
    for each in (old, young):
        each.write_bytes(b"begun")
    os.utime(old, (0, 0))
    for _ in range(2):
        make(path)
        assert sorted(tmp_path.iterdir()) == sorted([young, path])
