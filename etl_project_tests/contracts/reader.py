"""Looking at a store from another process, through a fresh connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from etl_project.storage.contract import Commit, Scope, Table
from etl_project_tests.contracts.backends import open_store


def table_of(backend: str, folder: Path, table: Table, scope: Scope, columns: list[str] | None = None) -> pa.Table:
    """The rows of the scope."""
    store = open_store(backend, folder)
    return store.arrow(store.read(table, scope, columns))


def history_of(backend: str, folder: Path, asset: str, key: str | None) -> list[Commit]:
    """The commit records of one partition."""
    return open_store(backend, folder).history(asset, key)


def last_of(backend: str, folder: Path) -> dict[tuple[str, str | None], Commit]:
    """The newest commit records."""
    return open_store(backend, folder).last_commits()


def nothing(*_: Any) -> None:
    """Warm the process up."""
