"""The backends that the contract suite runs on. Adding a backend: one line in BACKENDS.

A factory takes an empty folder and gives a store; it is called anew in every process that looks at the same folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from etl_project.storage.contract import Store
from etl_project.storage.engines.duckdb_file import DuckDBFile, DuckDBStore
from etl_project.storage.engines.ducklake.engine import DuckLakeStore
from etl_project.storage.engines.postgres.engine import PostgresStore
from etl_project.storage.lake.store import ParquetStore
from etl_project.storage.tables.store import TableStore
from etl_project_tests import postgres, s3


class LostAnswers(DuckDBFile):
    """Every COMMIT happens, and its answer never arrives: degraded on purpose."""

    def commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().commit(connection)
        raise duckdb.IOException("Connection lost while waiting for the answer to COMMIT")


def _ducklake(folder: Path) -> Store:
    return DuckLakeStore(postgres.url_of(folder), folder / "warehouse", wait_seconds=WAIT_SECONDS, scratch=folder)


def _postgres(folder: Path) -> Store:
    return PostgresStore(postgres.plain_url_of(folder), wait_seconds=WAIT_SECONDS, scratch=folder)


WAIT_SECONDS = 240
"""For others that are in the way: for as long as any of them may need on a busy machine."""

BACKENDS: dict[str, Callable[[Path], Store]] = {
    "duckdb": lambda folder: DuckDBStore(folder / "warehouse.duckdb", wait_seconds=WAIT_SECONDS),
    "parquet": lambda folder: ParquetStore(folder / "lake", wait_seconds=WAIT_SECONDS),
    "duckdb-lost-commit-answer": lambda folder: TableStore(
        LostAnswers(folder / "warehouse.duckdb", {}), wait_seconds=WAIT_SECONDS
    ),
    **({"ducklake": _ducklake, "postgres": _postgres} if postgres.SERVER else {}),
    **({"bucket": s3.lake_of} if s3.BUCKET else {}),
}


def open_store(backend: str, folder: Path) -> Store:
    """A fresh store over the folder."""
    return BACKENDS[backend](folder)
