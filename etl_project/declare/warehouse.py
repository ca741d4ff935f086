"""Warehouse: the store, the IO manager and the `duckdb` resource that the settings name.

Belongs here: the one place that knows which engine that is. Everybody else asks here and works with any of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource

from etl_project import settings
from etl_project.settings import Settings
from etl_project.storage import (
    DuckDBPartitionIOManager,
    DuckDBStore,
    DuckLakePartitionIOManager,
    PartitionIOManager,
    PartitionLock,
    PostgresPartitionIOManager,
    TableStore,
)


def warehouse(configured: Settings, wait_seconds: float | None = None) -> TableStore:
    """The tables and their commit records; `wait_seconds` instead of the wait setting.

    Nothing is opened. Raises UnknownPlace and ExtraMissing (retrying does not help).
    """
    patience = configured.wait_seconds if wait_seconds is None else wait_seconds
    if configured.warehouse_url is None:
        return DuckDBStore(configured.warehouse, patience)
    from etl_project.storage import DuckLakeStore, PostgresStore  # noqa: PLC0415  # Need an extra.

    if configured.is_postgres:
        return PostgresStore(configured.warehouse_url, patience, scratch=configured.data_dir)
    data = str(configured.warehouse_data)
    return DuckLakeStore(configured.warehouse_url, data, patience, scratch=configured.data_dir)


def warehouse_io_manager(configured: Settings, lock: PartitionLock) -> PartitionIOManager:
    """What writes and reads the tables in runs. A password stays in the environment: Dagster shows what it is given."""
    alike = _alike(configured, lock)
    if configured.warehouse_url is None:
        return DuckDBPartitionIOManager(url=str(configured.warehouse), **alike)
    alike |= {"url": dg.EnvVar(settings.WAREHOUSE_URL), "scratch": str(configured.data_dir)}
    if configured.is_postgres:
        return PostgresPartitionIOManager(**alike)
    return DuckLakePartitionIOManager(data=str(configured.warehouse_data), **alike)


def _alike(configured: Settings, lock: PartitionLock) -> dict[str, Any]:
    """What the project's settings say about a warehouse, whichever it is."""
    return {
        "wait_seconds": configured.wait_seconds,
        "run_lock": lock,
        "preview_rows": configured.preview_rows,
        "keep_versions": configured.keep_versions,
        "keep_versions_days": configured.keep_versions_days,
        "record_inputs": configured.openlineage_url is not None,
        "memory_limit_mb": configured.memory_limit_mb,
        "pandas_dtypes": "pyarrow",
    }


def warehouse_resource(configured: Settings) -> DuckDBResource:
    """The resource `duckdb`: connections for what assets and checks ask in SQL, whatever the engine."""
    if configured.warehouse_url is None:
        return DuckDBResource(database=str(configured.warehouse))
    if configured.is_postgres:
        return PostgresResource(
            database=settings.WAREHOUSE_URL, url=dg.EnvVar(settings.WAREHOUSE_URL), scratch=str(configured.data_dir)
        )
    return DuckLakeResource(
        database=settings.WAREHOUSE_URL,
        url=dg.EnvVar(settings.WAREHOUSE_URL),
        data=str(configured.warehouse_data),
        scratch=str(configured.data_dir),
    )


class DuckLakeResource(DuckDBResource):
    """Connections to a DuckLake that take the same SQL as those to a DuckDB file. `database` is a name to show."""

    url: str
    data: str
    scratch: str

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection whose current database is the lake, closed when the block ends. Raises StoreUnavailable."""
        from etl_project.storage import DuckLakeStore  # noqa: PLC0415  # Needs an extra.

        with DuckLakeStore(self.url, self.data, scratch=self.scratch).connect() as connection:
            yield connection


class PostgresResource(DuckDBResource):
    """Connections to a PostgreSQL database that take the same SQL as those to a DuckDB file. `database` is a name."""

    url: str
    scratch: str

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection whose current database is PostgreSQL's, closed when the block ends. Raises StoreUnavailable."""
        from etl_project.storage import PostgresStore  # noqa: PLC0415  # Needs an extra.

        with PostgresStore(self.url, scratch=self.scratch).connect() as connection:
            yield connection
