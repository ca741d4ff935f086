"""Where rows are kept: a text that is no path on this machine never becomes one in silence."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest

from etl_project.storage import DuckDBPartitionIOManager, DuckDBStore, ParquetPartitionIOManager, ParquetStore
from etl_project.storage.places import UnknownPlace

ADDRESSES = [
    "md:x",
    ":memory:",
    "duckdb:///:memory:",
    "s3://bucket/x",
    "postgresql://host/db",
    "duckdb://md:x",
    "",
    " ",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_refused_where_it_is_written(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownPlace, match=r"url=.*Give a path"):
        DuckDBStore(address)
    with pytest.raises(ValueError, match="Give a path"):
        DuckDBPartitionIOManager(url=address)
    if not address.startswith("s3:"):
        with pytest.raises(UnknownPlace, match=r"root=.*Give a path"):
            ParquetStore(address)
        with pytest.raises(ValueError, match="Give a path"):
            ParquetPartitionIOManager(root=address)
    assert os.listdir() == []  # noqa: TID251


def test_an_address_in_an_environment_variable_is_refused_when_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE", "md:x")
    manager = DuckDBPartitionIOManager(url=dg.EnvVar("WAREHOUSE"))
    with pytest.raises(Exception, match="Give a path"), manager.process_config_and_initialize_cm() as known:
        known.store()


def test_the_home_folder_is_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert DuckDBStore("~/w.duckdb").path == tmp_path / "w.duckdb"
    assert DuckDBPartitionIOManager(url="duckdb:///~/w.duckdb").store().path == tmp_path / "w.duckdb"
    assert ParquetStore("~/lake").root == tmp_path / "lake"


@pytest.mark.parametrize("path", ["/tmp/w.duckdb", "duckdb:////tmp/w.duckdb", "/tmp/a:b/w.duckdb"])
def test_paths_stay_what_they_are(path: str) -> None:
    assert DuckDBStore(path).path == Path(path.removeprefix("duckdb:///"))
