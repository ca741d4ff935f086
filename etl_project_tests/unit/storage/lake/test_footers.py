"""The cache of commit records cannot lie: what changed is read again, whatever the cache says."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from etl_project import settings
from etl_project.declare.daily_table import LAKE
from etl_project.definitions import default_resources
from etl_project.storage.contract import Request, Scope, Table
from etl_project.storage.lake import footer
from etl_project.storage.lake.store import ParquetStore

DAYS = [date(2024, 1, n) for n in (1, 2, 3)]
TABLE = Table("orders", "orders")
RANGE = Scope.days(DAYS[0], DAYS[-1])


@pytest.fixture
def store(tmp_path: Path) -> ParquetStore:
    return ParquetStore(tmp_path / "lake", cache=tmp_path / "cache")


def write(store: ParquetStore, scope: Scope, n: int) -> None:
    days = [partition.lower for partition in scope.partitions]
    store.replace(
        TABLE, scope, pa.table({"batch_date": pa.array(days, pa.date32()), "n": [n] * len(days)}), Request("r")
    )


def agrees(store: ParquetStore) -> bool:
    return store.last_commits() == ParquetStore(store.root).last_commits()


def test_files_that_did_not_change_are_not_opened_again(store: ParquetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store, RANGE, 1)
    first = store.last_commits()
    monkeypatch.setattr(footer, "last_record", lambda path: pytest.fail(f"{path} was opened"))
    assert store.last_commits() == first and len(first) == 3


def test_the_projects_io_manager_of_the_lake_opens_no_unchanged_file_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check `reproducible` looks at all files of an asset in every run."""
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    with default_resources(settings.load())[LAKE].process_config_and_initialize_cm() as manager:
        store = manager.store()
    write(store, RANGE, 1)
    first = store.last_commits(["orders"])
    monkeypatch.setattr(footer, "last_record", lambda path: pytest.fail(f"{path} was opened"))
    assert store.last_commits(["orders"]) == first and len(first) == 3


def test_a_file_that_was_rewritten_is_read_again(store: ParquetStore) -> None:
    write(store, RANGE, 1)
    before = store.last_commits()
    write(store, Scope.days(DAYS[1], DAYS[1]), 2)
    assert agrees(store) and store.last_commits() != before


def test_a_file_that_is_gone_is_forgotten(store: ParquetStore) -> None:
    write(store, RANGE, 1)
    store.last_commits()
    (store.root / "orders" / "batch_date=2024-01-02" / "data.parquet").unlink()
    assert agrees(store) and len(store.last_commits()) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"version": 99}', "not json", '{"version": 1, "files": 3}'])
def test_a_broken_cache_is_made_anew(store: ParquetStore, tmp_path: Path, content: str) -> None:
    write(store, RANGE, 1)
    store.last_commits()
    (tmp_path / "cache" / "orders.json").write_text(content)
    assert agrees(store)


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ParquetStore(tmp_path / "lake", cache=tmp_path / "file" / "cache")
    write(store, RANGE, 1)
    assert agrees(store)


def test_a_cache_that_cannot_be_put_in_place_leaves_no_temporary_file(
    store: ParquetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write(store, RANGE, 1)
    monkeypatch.setattr(Path, "rename", full)
    for _ in range(2):
        assert agrees(store) and list((tmp_path / "cache").iterdir()) == []
