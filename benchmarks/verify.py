"""What it takes to verify a year: 3.65 M rows of eight columns in 365 days, as a table and as Parquet files.

    python benchmarks/verify.py

The floor is one DuckDB query over the same rows that hashes every value and groups by day. Dagster knows every commit.
Times are the best of three in one process, without the start of Python; the start of `etl verify` is timed beside.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import pyarrow as pa

from etl_project.declare.daily_table import daily
from etl_project.proofs.verify import events, whole
from etl_project.proofs.verify.targets import Stored
from etl_project.storage.contract import Request, Scope, Table
from etl_project.storage.engines.duckdb_file import DuckDBStore
from etl_project.storage.lake.store import ParquetStore

DAYS, ROWS_A_DAY = 365, 10_000
SCOPE = Scope.days(date(2024, 1, 1), date(2024, 12, 30))


def year() -> pa.Table:
    """Eight columns of the kinds that tables have."""
    count, random = DAYS * ROWS_A_DAY, np.random.default_rng(0)
    names = pa.array([f"customer {n}" for n in range(1000)])
    days = np.repeat(np.arange(DAYS) + np.datetime64("2024-01-01"), ROWS_A_DAY)
    return pa.table(
        {
            "batch_date": pa.array(days, pa.date32()),
            "id": pa.array(np.arange(count)),
            "quantity": pa.array(random.integers(0, 100, count), pa.int32()),
            "price": pa.array(random.random(count)),
            "customer": names.take(pa.array(random.integers(0, 1000, count))),
            "country": pa.array(np.array(["GB", "DE", "FR", "IT"])[random.integers(0, 4, count)]),
            "at": pa.array(random.integers(1.6e15, 1.7e15, count), pa.timestamp("us", "UTC")),
            "flag": pa.array(random.integers(0, 2, count).astype(bool)),
        }
    )


def best(action: Callable[[], object], tries: int = 3) -> float:
    """Seconds of the fastest try."""
    times = []
    for _ in range(tries):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(folder: Path, instance: dg.DagsterInstance) -> None:
    """Write the year twice, tell Dagster, verify each."""
    table, data = Table("events", "events"), year()
    days = daily(date(2024, 1, 1))
    warehouse, lake = DuckDBStore(folder / "w.duckdb"), ParquetStore(folder / "lake")
    targets = {
        "table in DuckDB": Stored("events", table, days, warehouse),
        "365 Parquet files": Stored("raw_events", Table("raw_events", "raw_events"), days, lake),
    }
    for name, target in targets.items():
        target.store.replace(target.table, SCOPE, data, Request("a-run"))
        whole.verify(instance, [target], repair=True)

        def once(target: Stored = target) -> None:
            done = whole.verify(instance, [target])
            assert done.sound and done.rows == DAYS * ROWS_A_DAY, done.findings[:3]

        print(f"verify {name:20} {best(once):6.2f} s", flush=True)
        print(f"  of it Dagster's side    {best(lambda t=target: events.known(instance, t)):6.2f} s", flush=True)

    def floor() -> None:
        with duckdb.connect(str(folder / "w.duckdb"), read_only=True) as connection:
            connection.execute("select batch_date, sum(hash(e)::hugeint) from events e group by 1").fetchall()

    print(f"floor: one query          {best(floor):6.2f} s", flush=True)


def start() -> None:
    """What Python and Dagster need before anything is looked at."""
    command = [sys.executable, "-m", "etl_project.cli", "verify", "--help"]
    print(f"start of the command      {best(lambda: subprocess.run(command, capture_output=True, check=True)):6.2f} s")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.local_temp(folder) as instance:
        measure(Path(folder), instance)
    start()


if __name__ == "__main__":
    main()
