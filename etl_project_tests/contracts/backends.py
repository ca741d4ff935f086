"""The backends that the contract suite runs on. Adding a backend: one line in BACKENDS.

A factory takes an empty folder and gives a store; it is called anew in every process that looks at the same folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from etl_project.storage.contract import Store
from etl_project.storage.lake.store import ParquetStore
from etl_project.storage.tables.store import DuckDBStore


class LostAnswers(DuckDBStore):
    """Every COMMIT happens, and its answer never arrives: degraded on purpose."""

    def _commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        super()._commit(connection)
        raise duckdb.IOException("Connection lost while waiting for the answer to COMMIT")


BACKENDS: dict[str, Callable[[Path], Store]] = {
    "duckdb": lambda folder: DuckDBStore(folder / "warehouse.duckdb", wait_seconds=20),
    "parquet": lambda folder: ParquetStore(folder / "lake", wait_seconds=20),
    "duckdb-lost-commit-answer": lambda folder: LostAnswers(folder / "warehouse.duckdb", wait_seconds=20),
}


def open_store(backend: str, folder: Path) -> Store:
    """A fresh store over the folder."""
    return BACKENDS[backend](folder)
