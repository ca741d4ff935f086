"""What every contract test works with: a store of each backend, each write made once and made twice."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from etl_project.storage.contract import Commit, Request, Scope, Store, Table
from etl_project_tests.contracts import reader
from etl_project_tests.contracts.backends import BACKENDS, open_store

DAY = date(2024, 3, 5)
NEXT = date(2024, 3, 6)
ORDERS = Table("orders", "orders")


class Bench:
    """A store under test. Writes are made `times` times; what is read back is read by another process."""

    def __init__(self, backend: str, folder: Path, elsewhere: ProcessPoolExecutor, times: int = 1) -> None:
        self.backend = backend
        self.folder = folder
        self.times = times
        self._elsewhere = elsewhere

    @property
    def keeps_constraints(self) -> bool:
        return self.backend.startswith("duck") or self.backend == "postgres"

    @property
    def keeps_nested(self) -> bool:
        """Whether records and lists of lists have a home; else they are refused by name."""
        return self.backend != "postgres"

    def store(self) -> Store:
        return open_store(self.backend, self.folder)

    def replace(self, data: Any, scope: Scope, table: Table = ORDERS, **request: Any) -> list[Commit]:
        """Replace the scope; `data` may be a function that makes it, where it can be used only once.

        A write that fails is made twice as well: the second time has to fail the same way.
        """
        for time in range(self.times):
            made = data() if callable(data) else data
            try:
                commits = self.store().replace(table, scope, made, Request("a run", **request))
            except Exception:
                if time + 1 == self.times:
                    raise
        return commits

    def arrow(self, scope: Scope, table: Table = ORDERS, columns: Sequence[str] | None = None) -> pa.Table:
        names = None if columns is None else list(columns)
        return self._elsewhere.submit(reader.table_of, self.backend, self.folder, table, scope, names).result()

    def rows(self, scope: Scope, table: Table = ORDERS, columns: Sequence[str] | None = None) -> list[tuple[Any, ...]]:
        found = self.arrow(scope, table, columns)
        return in_order(tuple(row.values()) for row in found.to_pylist())

    def history(self, key: str | None, asset: str = "orders") -> list[Commit]:
        return self._elsewhere.submit(reader.history_of, self.backend, self.folder, asset, key).result()

    def last(self) -> dict[tuple[str, str | None], Commit]:
        return self._elsewhere.submit(reader.last_of, self.backend, self.folder).result()


def in_order(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows sorted, whatever is in them."""
    return sorted(rows, key=lambda row: [str(value) for value in row])


def day(*days: date) -> Scope:
    """The scope from the first to the last of these days."""
    return Scope.days(days[0], days[-1])


def frame(*rows: tuple[date | None, int | None], **more: Any) -> pd.DataFrame:
    """Rows of (batch_date, n), with more columns if given."""
    dates = pa.array([row[0] for row in rows], pa.date32())
    numbers = pa.array([row[1] for row in rows], pa.int32())
    table = pa.table({"batch_date": dates, "n": numbers, **more})
    return table.to_pandas(types_mapper=pd.ArrowDtype)


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[ProcessPoolExecutor]:
    """One other process, for looking at what was written."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(reader.nothing).result()
        yield pool


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def twins() -> Iterator[Any]:
    """Each backend with the number of times that a write is made.

    By `make test` once on each and twice on the first; all others by `make long`, and so is what answers nothing.
    """
    for name in BACKENDS:
        for times in (1, 2) if name in ("duckdb", "parquet") else (2,):
            others = name == "duckdb-lost-commit-answer" or (name, times) == ("parquet", 2)
            marks = [pytest.mark.long] if others else []
            yield pytest.param((name, times), id=f"{name}-{'twice' if times == 2 else 'once'}", marks=marks)


@pytest.fixture(params=twins())
def bench(request: pytest.FixtureRequest, tmp_path: Path, elsewhere: ProcessPoolExecutor) -> Bench:
    """Each write test runs with every write made once, and with its twin in which every write is made twice."""
    name, times = request.param
    return Bench(name, inside(tmp_path), elsewhere, times)


@pytest.fixture(params=[name for name in BACKENDS if name != "duckdb-lost-commit-answer"])
def once(request: pytest.FixtureRequest, tmp_path: Path, elsewhere: ProcessPoolExecutor) -> Bench:
    """For tests that count commits, and for those in which nothing is written."""
    return Bench(request.param, inside(tmp_path), elsewhere)


def inside(folder: Path) -> Path:
    """Two floors down in the test's own folder: what climbs out of it is still seen there, and is nobody else's."""
    made = folder / "around" / "bench"
    made.mkdir(parents=True)
    return made
