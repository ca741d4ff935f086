"""What keeping versions costs: a write that replaces a day, with `keep_versions: 3` and without, as a ratio.

    python benchmarks/versions.py            10,000, 100,000 and 1 M rows of eight columns, in tables and in files
    python benchmarks/versions.py 10000
    ETL_TEST_POSTGRES='host=... user=... password=...' python benchmarks/versions.py      tables in PostgreSQL, too

Every write brings other rows. The kinds take turns in one process; the best of several tries counts, by the clock and,
because a busy machine's clock says little about a disk's, by the processor time of this process. Beside it stands what
the rows of a write cost DuckDB if nothing is done but DELETE, INSERT and, with versions, one INSERT ... SELECT of the
old rows before. The sizes on disk are those after all writes.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa

from benchmarks.storage_speed import rows, scope
from etl_project.storage.contract import Request, Store, Table
from etl_project.storage.engines.duckdb_file import CONFIG, DuckDBStore
from etl_project.storage.lake.store import ParquetStore

DAY = date(2024, 1, 1)
TABLE = Table("events", "events")
WRITES = 12
KEPT = 3

Write = Callable[[pa.Table, int], object]


class Taken(NamedTuple):
    clock: float
    processor: float


def postgres(folder: Path) -> Store:
    from etl_project.storage.engines.postgres.engine import PostgresStore
    from etl_project_tests.postgres import plain_url_of

    gc.enable()  # Tests do without while they are loaded.
    return PostgresStore(plain_url_of(folder))


STORES: dict[str, Callable[[Path], Store]] = {
    "table": lambda folder: DuckDBStore(folder / "data.duckdb"),
    "file": lambda folder: ParquetStore(folder / "data"),
    "postgres": postgres,
}


def raw(path: Path, keep: int) -> Write:
    """DELETE and INSERT, and the copy of the old rows, with the connection opened and closed as the store does it."""

    def write(data: pa.Table, number: int) -> None:
        with closing(duckdb.connect(str(path), config=dict(CONFIG))) as connection:
            connection.register("incoming", data)
            connection.begin()
            connection.execute("CREATE TABLE IF NOT EXISTS events AS SELECT * FROM incoming WHERE false")
            if keep:
                connection.execute("CREATE TABLE IF NOT EXISTS old AS SELECT *, 0 AS n FROM events WHERE false")
                connection.execute("INSERT INTO old SELECT *, ? FROM events WHERE batch_date = ?", [number, DAY])
                connection.execute("DELETE FROM old WHERE n <= ?", [number - keep])
            connection.execute("DELETE FROM events WHERE batch_date = ?", [DAY])
            connection.execute("INSERT INTO events BY NAME SELECT * FROM incoming")
            connection.commit()

    return write


def through_store(store: Store, table: Table) -> Write:
    return lambda data, _: store.replace(table, scope(DAY), data, Request("r"))


def taken(write: Write, data: pa.Table, number: int) -> Taken:
    clock, processor = time.perf_counter(), time.process_time()
    write(data, number)
    return Taken(time.perf_counter() - clock, time.process_time() - processor)


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def compare(kind: str, count: int, writes: dict[str, Callable[[Path], Write]]) -> None:
    with tempfile.TemporaryDirectory(prefix="etl-benchmark-") as scratch:
        folders = {name: Path(scratch, name) for name in writes}
        for folder in folders.values():
            folder.mkdir()
        opened = {name: make(folders[name]) for name, make in writes.items()}
        tries: dict[str, list[Taken]] = {name: [] for name in writes}
        for number in range(WRITES):
            data = rows(count, DAY, number)
            for name, write in opened.items():
                tries[name].append(taken(write, data, number))
        best = {name: Taken(*map(min, zip(*found[1:], strict=True))) for name, found in tries.items()}
        sizes = {name: size_mb(folder) for name, folder in folders.items()}
    without, keeping = best["without"], best["with"]
    disk = "" if kind == "postgres" else f"; {sizes['without']:.1f} MB without, {sizes['with']:.1f} MB with"
    print(
        f"{count:,} rows, {kind}: without {without.clock * 1000:.0f} ms, with {keeping.clock * 1000:.0f} ms, ratio "
        f"{keeping.clock / without.clock:.2f}; processor {without.processor * 1000:.0f} and "
        f"{keeping.processor * 1000:.0f} ms, ratio {keeping.processor / without.processor:.2f}{disk}",
        flush=True,
    )


def main(counts: list[int]) -> None:
    keeping = replace(TABLE, keep_versions=KEPT)
    for count in counts:
        compare(
            "DuckDB alone",
            count,
            {"without": lambda at: raw(at / "data.duckdb", 0), "with": lambda at: raw(at / "data.duckdb", KEPT)},
        )
        for kind, make in STORES.items():
            if kind != "postgres" or os.environ.get("ETL_TEST_POSTGRES"):
                compare(
                    kind,
                    count,
                    {
                        "without": lambda at, make=make: through_store(make(at), TABLE),  # type: ignore[misc]
                        "with": lambda at, make=make: through_store(make(at), keeping),  # type: ignore[misc]
                    },
                )


if __name__ == "__main__":
    print(f"duckdb {duckdb.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    main([int(given) for given in sys.argv[1:]] or [10_000, 100_000, 1_000_000])
