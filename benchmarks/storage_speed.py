"""What a safe write costs: the DuckDB store against raw DuckDB, in one run, as ratios.

    python benchmarks/storage_speed.py write        1 M and 5 M rows into one day of a table of 10 days
    python benchmarks/storage_speed.py pairs        one of 100 days, 10,000 and 1 M rows: CPU seconds in turns, medians
    python benchmarks/storage_speed.py growth       10,000 rows into a table of 10, 1,000 and 5,000 days; unchanged days
    python benchmarks/storage_speed.py rewrites     1,000 rewrites of one day: the size of the file
    python benchmarks/storage_speed.py memory       50 M rows as a stream, DuckDB limited to 512 MB
    python benchmarks/storage_speed.py footers      commit records of 5,000 Parquet files
    python benchmarks/storage_speed.py load         a pandas frame of 1 M rows read back, beside DuckDB's own fetchdf
    python benchmarks/storage_speed.py load_files   days of 10,000 rows read back from a lake, beside pyarrow's own

Times are the best of several tries in the same process; the raw side does DELETE and INSERT in one transaction on a
connection opened and closed for it, as the store's is.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq

from etl_project.storage import DuckDBPartitionIOManager
from etl_project.storage.contract import Request, Scope, Table
from etl_project.storage.dagster import conversions
from etl_project.storage.dagster.conversions import Wanted
from etl_project.storage.engines.duckdb_file import CONFIG, DuckDBStore
from etl_project.storage.judging import judgement
from etl_project.storage.lake.store import ParquetStore

DAY = date(2024, 1, 1)
TABLE = Table("events", "events")


def rows(count: int, day: date, seed: int = 0) -> pa.Table:
    """Eight columns of the kinds that tables have."""
    random = np.random.default_rng(seed)
    names = pa.array([f"customer {n}" for n in range(1000)])
    return pa.table(
        {
            "batch_date": pa.array(np.full(count, np.datetime64(day)), pa.date32()),
            "id": pa.array(np.arange(count) + seed * count),
            "quantity": pa.array(random.integers(0, 100, count), pa.int32()),
            "price": pa.array(random.random(count)),
            "customer": names.take(pa.array(random.integers(0, 1000, count))),
            "country": pa.array(np.array(["GB", "DE", "FR", "IT"])[random.integers(0, 4, count)]),
            "at": pa.array(random.integers(1.6e15, 1.7e15, count), pa.timestamp("us", "UTC")),
            "flag": pa.array(random.integers(0, 2, count).astype(bool)),
        }
    )


def scope(day: date) -> Scope:
    return Scope.days(day, day)


def raw_write(path: Path, data: pa.Table, day: date) -> None:
    """What one would write by hand: atomic, and nothing else."""
    with closing(duckdb.connect(str(path), config=dict(CONFIG))) as connection:
        connection.register("incoming", data)
        connection.begin()
        connection.execute("DELETE FROM events WHERE batch_date = ?", [day])
        connection.execute("INSERT INTO events BY NAME SELECT * FROM incoming")
        connection.commit()


def seconds(action: Callable[..., object], *args: object) -> float:
    """How long it takes."""
    started = time.perf_counter()
    action(*args)
    return time.perf_counter() - started


def cpu_seconds(action: Callable[[], object]) -> float:
    """How much of the processor it takes; that holds on a machine that others use."""
    started = time.process_time()
    action()
    return time.process_time() - started


def fill(store: DuckDBStore, count: int, days: int) -> None:
    """A table of that many days, filled in one statement."""
    store.replace(TABLE, scope(DAY), rows(count, DAY), Request("fill"))
    with store.connect() as connection:
        connection.execute(
            "INSERT INTO events SELECT events.* REPLACE (batch_date + n::INTEGER AS batch_date) "
            "FROM events, range(1, ?) AS more(n) ORDER BY n",
            [days],
        )


def replace(store: DuckDBStore, day: date, data: pa.Table) -> None:
    store.replace(TABLE, scope(day), data, Request("r"))


def write(folder: Path) -> None:
    for millions in (1, 5):
        count = millions * 1_000_000
        raw = DuckDBStore(folder / f"raw{millions}.duckdb")
        ours = DuckDBStore(folder / f"ours{millions}.duckdb")
        for store in (raw, ours):
            fill(store, count // 10, 10)
        versions = [rows(count, DAY, seed) for seed in range(1, 5)]
        replace(ours, DAY, versions[3])
        raw_write(raw.path, versions[3], DAY)
        by_hand, safe = [], []
        for data in versions[:3]:
            by_hand.append(seconds(raw_write, raw.path, data, DAY))
            safe.append(seconds(replace, ours, DAY, data))
        judgement.COMPARED_ROWS = 10**9
        compared = seconds(replace, ours, DAY, versions[3])
        judgement.COMPARED_ROWS = 250_000
        unchanged = seconds(replace, ours, DAY, versions[3])
        print(
            f"{millions} M rows x 8: raw {min(by_hand):.2f} s, store {min(safe):.2f} s, "
            f"ratio {min(safe) / min(by_hand):.2f} (goal 1.25); with content comparison {compared:.2f} s; "
            f"unchanged {unchanged:.2f} s"
        )


def pairs(folder: Path, rounds: int = 7) -> None:
    """The same day by hand, changed without and with its rows compared, and unchanged, in turns: CPU, not time."""
    for count in (10_000, 1_000_000):
        raw, ours = DuckDBStore(folder / f"raw-{count}.duckdb"), DuckDBStore(folder / f"ours-{count}.duckdb")
        for store in (raw, ours):
            fill(store, 10_000, 100)
        taken: dict[str, list[float]] = {"raw": [], "uncompared": [], "compared": [], "unchanged": []}
        for turn in range(rounds + 1):  # The first turn warms up.
            data = rows(count, DAY, 2 * turn), rows(count, DAY, 2 * turn + 1)
            now = {"raw": cpu_seconds(partial(raw_write, raw.path, data[0], DAY))}
            for name, limit, incoming in (("uncompared", 0, 0), ("compared", 10**9, 1), ("unchanged", 10**9, 1)):
                judgement.COMPARED_ROWS = limit
                now[name] = cpu_seconds(partial(replace, ours, DAY, data[incoming]))
            if turn:
                for name, one in now.items():
                    taken[name].append(one)
        judgement.COMPARED_ROWS = 250_000
        each = {name: statistics.median(times) for name, times in taken.items()}

        def ratio(name: str, to: str, taken: dict[str, list[float]] = taken) -> float:
            return statistics.median(one / other for one, other in zip(taken[name], taken[to], strict=True))

        print(
            f"{count:,} rows: raw {each['raw'] * 1000:.0f} ms of CPU, changed {each['uncompared'] * 1000:.0f}, with "
            f"content comparison {each['compared'] * 1000:.0f}, unchanged {each['unchanged'] * 1000:.0f}; changed / "
            f"raw {ratio('uncompared', 'raw'):.2f}, compared / raw {ratio('compared', 'raw'):.2f}, comparison / write "
            f"{ratio('compared', 'uncompared') - 1:.2f}, unchanged / compared {ratio('unchanged', 'compared'):.2f}"
        )


def growth(folder: Path) -> None:
    first = None
    for days in (10, 1_000, 5_000):
        store = DuckDBStore(folder / f"{days}.duckdb")
        fill(store, 10_000, days)
        day = DAY + timedelta(days=days // 2)
        data = [rows(10_000, day, seed) for seed in range(1, 9)]
        changed = min(seconds(replace, store, day, each) for each in data)
        same = min(seconds(replace, store, day, data[-1]) for _ in data)
        by_hand = min(seconds(raw_write, store.path, each, day) for each in data)
        first = first or changed
        print(
            f"{days} days: changed {changed * 1000:.0f} ms ({changed / first:.2f} of 10 days, goal 1.3), unchanged "
            f"{same * 1000:.0f} ms ({same / changed:.2f} of changed, goal 0.33), raw {by_hand * 1000:.0f} ms"
        )


def rewrites(folder: Path) -> None:
    store, fresh = DuckDBStore(folder / "often.duckdb"), DuckDBStore(folder / "fresh.duckdb")
    for each in (store, fresh):
        fill(each, 10_000, 10)
    data = [rows(10_000, DAY, seed) for seed in range(2)]
    for n in range(1_000):
        store.replace(TABLE, scope(DAY), data[n % 2], Request("r"))
    often, once = store.path.stat().st_size, fresh.path.stat().st_size
    print(f"1,000 rewrites: {often / 1e6:.1f} MB, fresh {once / 1e6:.1f} MB, ratio {often / once:.2f} (goal 1.5)")


def memory(folder: Path, count: int = 50_000_000) -> None:
    part = rows(500_000, DAY)

    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(count // len(part)):
            yield from part.to_batches()

    reader = pa.RecordBatchReader.from_batches(part.schema, batches())
    store = DuckDBStore(folder / "big.duckdb", settings={"memory_limit": "512MB"})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    store.replace(TABLE, scope(DAY), reader, Request("r"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{count / 1e6:.0f} M rows as a stream: {time.perf_counter() - started:.0f} s, peak RSS {peak / 1e6:.2f} GB "
        f"(before {before / 1e6:.2f} GB, goal 1.5 GB)"
    )


def footers(folder: Path) -> None:
    """One day a file."""
    last = DAY + timedelta(days=4_999)
    days = pa.array([DAY + timedelta(days=n) for n in range(5_000)], pa.date32())
    store = ParquetStore(folder / "lake", cache=folder / "cache")
    store.replace(TABLE, Scope.days(DAY, last), pa.table({"batch_date": days}), Request("r"))
    first = seconds(store.last_commits)
    again = min(seconds(store.last_commits) for _ in range(3))
    plain = seconds(ParquetStore(folder / "lake").last_commits)
    print(
        f"records of 5,000 files: first look {first:.2f} s, nothing changed {again:.2f} s, without cache {plain:.2f} s"
    )


def load(folder: Path) -> None:
    """As an asset reads its input, with the types that the frame was written with.

    dagster-duckdb-pandas, which pins another pandas, runs `SELECT *` and `fetchdf` on a connection of its own.
    """
    path = folder / "loaded.duckdb"
    manager = DuckDBPartitionIOManager(url=str(path))
    manager.handle_output(dg.build_output_context(asset_key="events"), rows(1_000_000, DAY).to_pandas())
    into = partial(dg.build_input_context, asset_key="events", dagster_type=dg.PythonObjectDagsterType(pd.DataFrame))

    def fetched() -> None:
        with closing(duckdb.connect(str(path), config=dict(CONFIG))) as connection:
            connection.execute("SELECT * FROM main.events").fetchdf()

    ways = {"ours": lambda: manager.load_input(into()), "fetchdf": fetched}
    tries = [{name: cpu_seconds(way) for name, way in ways.items()} for _ in range(7)]
    ours, peer = (min(one[name] for one in tries) for name in ways)
    print(f"load of 1 M rows, 8 columns: {ours:.2f} CPU s, fetchdf {peer:.2f} CPU s, ratio {ours / peer:.2f}")


def load_files(folder: Path, days: int = 30) -> None:
    """One day and a month of a lake, as each kind of frame; beside reading the same files with pyarrow alone."""
    store, last = ParquetStore(folder / "lake"), DAY + timedelta(days=days - 1)
    for day in (DAY + timedelta(days=n) for n in range(days)):
        store.replace(TABLE, scope(day), rows(10_000, day), Request("r"))
    files = sorted((folder / "lake").rglob("data.parquet"))
    kinds = {pd.DataFrame: pa.Table.to_pandas, pa.Table: lambda rows: rows, polars.DataFrame: polars.from_arrow}
    for some, asked in ((files[:1], scope(DAY)), (files, Scope.days(DAY, last))):
        for kind, convert in kinds.items():
            wanted = Wanted(kind)

            def ours(asked: Scope = asked, wanted: Wanted = wanted) -> None:
                conversions.read(store, TABLE, asked, None, wanted)

            def bare(some: list[Path] = some, convert: Callable[[pa.Table], object] = convert) -> None:
                convert(pa.concat_tables(pq.read_table(file, partitioning=None) for file in some))

            tries = [(cpu_seconds(ours), cpu_seconds(bare)) for _ in range(22)][1:]
            each = [statistics.median(times) * 1000 for times in zip(*tries, strict=True)]
            name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
            print(f"{len(some)} files as {name}: {each[0]:.1f} ms of CPU, bare {each[1]:.1f}, {each[0] / each[1]:.2f}")


if __name__ == "__main__":
    benchmarks = {
        "write": write,
        "pairs": pairs,
        "growth": growth,
        "rewrites": rewrites,
        "footers": footers,
        "memory": memory,
        "load": load,
        "load_files": load_files,
    }
    print(f"duckdb {duckdb.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name in sys.argv[1:] or benchmarks:
        with tempfile.TemporaryDirectory(prefix="etl-benchmark-") as scratch:
            benchmarks[name](Path(scratch))
