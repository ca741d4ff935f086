"""What keeping versions costs: a write that replaces a day, with `keep_versions: 3` and without, as a ratio.

    python benchmarks/versions.py            10,000, 100,000 and 1 M rows of eight columns, in tables and in files
    python benchmarks/versions.py 10000

Every write brings other rows. The two kinds take turns in one process, and the best of several tries counts. The sizes
on disk are those after all writes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb

from benchmarks.storage_speed import rows, scope, seconds
from etl_project.storage.contract import Request, Store, Table
from etl_project.storage.engines.duckdb_file import DuckDBStore
from etl_project.storage.lake.store import ParquetStore

DAY = date(2024, 1, 1)
TABLE = Table("events", "events")
WRITES = 12


def stores(folder: Path) -> dict[str, Callable[[str], Store]]:
    return {
        "table": lambda name: DuckDBStore(folder / f"{name}.duckdb"),
        "file": lambda name: ParquetStore(folder / name),
    }


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def compare(kind: str, count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="etl-benchmark-") as scratch:
        folder = Path(scratch)
        best, sizes = {}, {}
        kinds = {"without": TABLE, "with": replace(TABLE, keep_versions=3)}
        opened = {name: stores(folder / name)[kind]("data") for name in kinds}
        for seed in range(WRITES):
            data = rows(count, DAY, seed)
            for name, table in kinds.items():
                taken = seconds(opened[name].replace, table, scope(DAY), data, Request("r"))
                best[name] = min(best.get(name, taken), taken) if seed else 10**9
        sizes = {name: size_mb(folder / name) for name in kinds}
    print(
        f"{count:,} rows, {kind}: without {best['without'] * 1000:.0f} ms, with {best['with'] * 1000:.0f} ms, ratio "
        f"{best['with'] / best['without']:.2f} ; "
        f"{sizes['without']:.1f} MB without, {sizes['with']:.1f} MB with"
    )


if __name__ == "__main__":
    print(f"duckdb {duckdb.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for rows_a_day in map(int, sys.argv[1:] or ("10000", "100000", "1000000")):
        for place in ("table", "file"):
            compare(place, rows_a_day)
