"""A day that is larger than the memory: DuckDB works on it out of core; time, memory and what it spills.

    python benchmarks/larger_than_memory.py                     2.5, 10 and 20 GB a day, DuckDB held to 1,000 MB
    python benchmarks/larger_than_memory.py 40                  another size, in GB
    python benchmarks/larger_than_memory.py 40 --memory 4000    another limit, in MB

The day lies in one Parquet file of ten columns, about 100 bytes a row once they are in memory: that is the size that is
told. From it a table is written by the store, in one transaction, with all that a write is judged by: once every row
unchanged, once numbered within each customer by a window function, once grouped. Each in a process of its own, so that
its peak of memory is its own; what is spilled is looked at four times a second. The disk needs three times the size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import duckdb

from etl_project.storage.contract import Request, Scope, Slice, Sql, Table
from etl_project.storage.engines.duckdb_file import DuckDBStore

DAY = date(2024, 1, 1)
ROW_BYTES = 100
ROWS_A_GB = 1_000_000_000 // ROW_BYTES
TABLE = Table("events", "events")

DATA = """
    SELECT DATE '2024-01-01' AS batch_date, range AS id, (hash(range) % 100)::INTEGER AS quantity,
        (hash(range, 1) % 1000000) / 100.0 AS price, 'customer ' || hash(range, 2) % {customers} AS customer,
        ['GB', 'DE', 'FR', 'IT'][(1 + hash(range, 3) % 4)::BIGINT] AS country, hash(range, 4) % 2 = 0 AS flag,
        make_timestamp((1704067200000000 + hash(range, 5) % 86400000000)::BIGINT) AS seen_at,
        md5(range::VARCHAR)[:16] AS reference, hash(range, 6)::HUGEINT::DECIMAL(20, 0) AS amount
    FROM range({rows})
"""
KINDS = {
    "as it is": "SELECT * FROM day",
    "window": "SELECT *, row_number() OVER (PARTITION BY customer ORDER BY seen_at, id) AS visit FROM day",
    "grouped": "SELECT batch_date, customer, country, count(*) AS n, sum(quantity)::BIGINT AS quantity, "
    "max(seen_at) AS last_seen, min(reference) AS first_reference FROM day GROUP BY ALL",
}


def made(folder: Path, rows: int) -> Path:
    path = folder / "day.parquet"
    with duckdb.connect(config={"temp_directory": str(folder / "tmp"), "memory_limit": "1GB"}) as connection:
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(
            f"COPY ({DATA.format(rows=rows, customers=max(1, rows // 20))}) TO '{path}' (FORMAT parquet)"
        )
    return path


class Spilled(threading.Thread):
    """The most that lay in DuckDB's temporary folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.most_bytes = folder, 0

    def run(self) -> None:
        while True:
            found = 0
            for path in self.folder.glob("*.tmp/*"):
                try:
                    found += path.stat().st_blocks * 512
                except FileNotFoundError:
                    continue
            self.most_bytes = max(self.most_bytes, found)
            time.sleep(0.25)


def write(path: Path, kind: str, memory_mb: int) -> None:
    """In a process of its own: prints what it took, or DuckDB's words."""
    folder = path.parent / "warehouse"
    folder.mkdir()
    spilled = Spilled(folder)
    spilled.start()
    store = DuckDBStore(folder / "w.duckdb", settings={"memory_limit": f"{memory_mb}MB"})
    data = Sql(KINDS[kind], day=Slice(f"SELECT * FROM read_parquet('{path}')"))
    begun, error, rows = time.perf_counter(), "", 0
    try:
        [commit] = store.replace(TABLE, Scope.days(DAY, DAY), data, Request("a run"))
        rows = commit.rows
    except Exception as failure:  # noqa: BLE001  # What it says is the result.
        error = " ".join(str(failure).split())[:200]
    used = resource.getrusage(resource.RUSAGE_SELF)
    told = {
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "seconds": time.perf_counter() - begun,
        "peak_mb": used.ru_maxrss / 1024,
        "spilled_mb": spilled.most_bytes / 1e6,
        "rows": rows,
        "error": error,
    }
    print(json.dumps(told))


def measure(size_gb: float, memory_mb: int) -> None:
    rows = int(size_gb * ROWS_A_GB)
    for kind in KINDS:
        with tempfile.TemporaryDirectory(prefix="etl-benchmark-", dir=os.environ.get("TMPDIR", "/var/tmp")) as scratch:
            path = made(Path(scratch), rows)
            command = [sys.executable, __file__, "--one", kind, "--memory", str(memory_mb), "--path", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                print(f"{size_gb:g} GB, {kind}: ended by itself ({done.returncode}) {done.stderr[-300:]}", flush=True)
                continue
            told = json.loads(done.stdout)
            print(
                f"{size_gb:g} GB ({rows:,} rows, {path.stat().st_size / 1e9:.1f} GB of Parquet), {kind}: "
                f"{told['seconds']:.0f} s, {told['cpu_seconds'] / size_gb:.1f} s of CPU a GB, at the most "
                f"{told['peak_mb']:,.0f} MB of memory, {told['spilled_mb'] / 1000:.1f} GB spilled, "
                f"{told['rows']:,} rows{': ' + told['error'] if told['error'] else ''}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="*", type=float, default=[2.5, 10, 20], help="in GB")
    parser.add_argument("--memory", type=int, default=1000, help="DuckDB's limit in MB")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        write(asked.path, asked.one, asked.memory)
        return
    for size in asked.size:
        measure(size, asked.memory)


if __name__ == "__main__":
    main()
