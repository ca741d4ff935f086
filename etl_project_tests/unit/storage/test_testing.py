"""The contract as a suite for others: our stores keep it, and a store that breaks one promise is caught at it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl_project.storage import DuckDBStore, ParquetStore
from etl_project.storage import testing as suite
from etl_project.storage.contract import Commit, Request, Scope, Table, WriteRefused


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", [DuckDBStore, ParquetStore])
def test_our_stores_keep_the_contract(make: Callable[[Path], Any], check: Any, tmp_path: Path) -> None:
    check(lambda: make(tmp_path / "place"))


class SkipsEmpty(DuckDBStore):
    """Passes over a frame without rows, as others do."""

    def replace(self, table: Table, scope: Scope, data: Any, request: Request) -> list[Commit]:
        if isinstance(data, pa.Table) and not len(data) and self.last_commits([table.asset]):
            return list(self.last_commits([table.asset]).values())[:1]
        return super().replace(table, scope, data, request)


class DropsStrays(DuckDBStore):
    """Passes over rows of other partitions instead of refusing them."""

    def replace(self, table: Table, scope: Scope, data: Any, request: Request) -> list[Commit]:
        try:
            return super().replace(table, scope, data, request)
        except WriteRefused:
            return super().replace(table, scope, data.slice(0, 1), request)


class ForgetsTheLock(DuckDBStore):
    """Commits without asking whether the writer still may."""

    def replace(self, table: Table, scope: Scope, data: Any, request: Request) -> list[Commit]:
        return super().replace(table, scope, data, dataclasses.replace(request, still_owner=lambda: None))


class AlwaysChanged(DuckDBStore):
    """Says of every write that something changed."""

    def replace(self, table: Table, scope: Scope, data: Any, request: Request) -> list[Commit]:
        return [dataclasses.replace(c, changed=True) for c in super().replace(table, scope, data, request)]


@pytest.mark.parametrize(
    ("store", "check"),
    [
        (SkipsEmpty, suite.empty_is_data),
        (DropsStrays, suite.rows_of_other_partitions_are_refused),
        (ForgetsTheLock, suite.a_lock_that_is_lost_commits_nothing),
        (AlwaysChanged, suite.every_commit_is_recorded),
    ],
)
def test_a_store_that_breaks_a_promise_is_caught_at_it(
    store: type[DuckDBStore], check: Callable[[suite.Open], None], tmp_path: Path
) -> None:
    with pytest.raises(suite.ContractBroken):
        check(lambda: store(tmp_path / "w.duckdb"))
