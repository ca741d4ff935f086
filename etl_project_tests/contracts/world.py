"""Processes that are stopped for real, and the rules that hold whatever they were doing.

Every write here puts ROWS rows into each of its days, all of one version: a day that holds anything else is torn.
Processes come from a fork server that has the libraries loaded, so that a test can afford many of them.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa

from etl_project import atomic
from etl_project.storage.contract import InputChanged, ReadRefused, Request, Scope, StoreBusy, Table
from etl_project_tests.contracts.backends import open_store
from etl_project_tests.forks import FORKS
from etl_project_tests.steady import PATIENCE_SECONDS

ROWS = 50
TABLE = Table(
    "orders",
    "orders",
    contract_sql="CREATE TABLE orders (batch_date DATE, n INTEGER, version INTEGER, PRIMARY KEY (batch_date, n))",
)
FIRST = date(2024, 1, 1)


def start(target: Callable[..., None], *args: Any) -> BaseProcess:
    """A process of its own, running."""
    process = FORKS.Process(target=target, args=args)
    process.start()
    return process


def finish(target: Callable[..., None], *args: Any) -> int | None:
    """Run a process to its end; its exit code, negative for a signal."""
    process = start(target, *args)
    process.join(PATIENCE_SECONDS)
    return process.exitcode


def days(count: int, first: int = 0) -> Scope:
    """Days that follow each other, from the first-th on."""
    start_day = FIRST + timedelta(days=first)
    return Scope.days(start_day, start_day + timedelta(days=count - 1))


def rows(scope: Scope, version: int, rows_a_day: int = ROWS) -> pa.Table:
    """One version of these days."""
    dates = [partition.lower for partition in scope.partitions for _ in range(rows_a_day)]
    numbers = list(range(rows_a_day)) * len(scope.partitions)
    types = [("batch_date", pa.date32()), ("n", pa.int32()), ("version", pa.int32())]
    return pa.table({"batch_date": dates, "n": numbers, "version": [version] * len(dates)}, schema=pa.schema(types))


def write(backend: str, folder: Path, scope: Scope, version: int, fault: str = "", file_size: int = 0) -> None:
    """Replace the days by this version; `fault` arms a step, `file_size` is the end of the disk."""
    if fault:
        os.environ["ETL_FAULT"] = fault
    if file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    open_store(backend, folder).replace(TABLE, scope, rows(scope, version), Request("a run"))


def found(backend: str, folder: Path, scope: Scope) -> Iterator[tuple[date, set[int], int]]:
    """Each day that has rows: the day, its versions, its number of rows. Waits for writers that hold the store."""
    store = open_store(backend, folder)
    try:
        table = store.arrow(store.read(TABLE, scope))
    except ReadRefused:
        return
    per_day = Counter(zip(table["batch_date"].to_pylist(), table["version"].to_pylist(), strict=True))
    for day in sorted({day for day, _ in per_day}):
        versions = {version for other, version in per_day if other == day}
        yield day, versions, sum(count for (other, _), count in per_day.items() if other == day)


def versions(backend: str, folder: Path, scope: Scope, rows_a_day: int = ROWS) -> dict[date, int]:
    """The version of each day; fails for a torn one. Asks again while writers are in the way."""
    while True:
        with suppress(InputChanged, StoreBusy):
            there = list(found(backend, folder, scope))
            break
    result = {}
    for day, seen, count in there:
        assert (len(seen), count) == (1, rows_a_day), f"{day} is torn: versions {seen}, {count} rows"
        result[day] = seen.pop()
    return result


def records_agree(backend: str, folder: Path, scope: Scope) -> None:
    """Every day's last record has the fingerprint of a clean write of the version that is there."""
    store = open_store(backend, folder)
    records = {key: commit for (_, key), commit in store.last_commits().items()}
    there = versions(backend, folder, scope)
    assert {key for key, commit in records.items() if commit.rows} == {day.isoformat() for day in there}
    for key in records:
        history = store.history("orders", key)
        assert [commit.sequence for commit in history] == list(range(history[0].sequence, history[-1].sequence + 1))


def leftovers(folder: Path) -> list[Path]:
    """Temporary files that a killed process left behind, but for those of what is only remembered."""
    found = (p for p in folder.rglob("*") if p.parent.name != "records")
    return [p for p in found if p.name.startswith(atomic.TEMPORARY_PREFIX) or p.name.endswith(".wal")]


def keep_writing(backend: str, folder: Path, scope: Scope, version: int, rounds: int) -> None:
    """Replace the days one at a time and as a range, again and again."""
    for _ in range(rounds):
        for n in range(len(scope.partitions)):
            patiently(backend, folder, Scope(scope.partitions[n : n + 1]), version)
        patiently(backend, folder, scope, version)


def patiently(backend: str, folder: Path, scope: Scope, version: int) -> None:
    """A write that tries again when others were in the way for too long."""
    while True:
        try:
            return write(backend, folder, scope, version)
        except StoreBusy:
            continue


def keep_reading(backend: str, folder: Path, scope: Scope, seconds: float) -> None:
    """Look at all days again and again; a torn one ends the process with an error."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        versions(backend, folder, scope)
