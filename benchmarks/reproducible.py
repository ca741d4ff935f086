"""What noticing rebuilds that give other rows costs: the write with it against the write without, in one run.

    python benchmarks/reproducible.py [small] [large] [steps]

Writes of 10,000 and of 1 M changed rows from changed inputs, which is what happens day by day, alternating with and
without the look at the build before; and, for once, a rebuild that is not reproducible. Best of several tries. Then the
step of the check: a run over 182 days of seven assets that do nothing, with and without checks.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
from storage_speed import DAY, TABLE, fill, rows, scope

from etl_project.declare.daily_table import daily
from etl_project.storage.contract import Commit, Request
from etl_project.storage.engines.duckdb_file import DuckDBStore
from etl_project.storage.tables.write import DuckDBWrite

TRIES = 25


def written(store: DuckDBStore, data: pa.Table, inputs: str) -> float:
    """Seconds of one write."""
    request = Request("r", "code", {DAY.isoformat(): inputs})
    started = time.perf_counter()
    store.replace(TABLE, scope(DAY), data, request)
    return time.perf_counter() - started


def writes(folder: Path, count: int, tries: int) -> None:
    """The same writes with and without the look, taking turns."""
    store = DuckDBStore(folder / f"{count}.duckdb")
    fill(store, count // 10, 10)
    versions = [rows(count, DAY, seed) for seed in range(2)]
    looks: dict[str, Callable[..., list[Commit]]] = {
        "with": DuckDBWrite._explained,
        "without": lambda _self, records, *_: list(records),
    }
    seconds: dict[str, list[float]] = {name: [] for name in looks}
    for turn in range(2 * tries):
        name = list(looks)[turn // 2 % 2]
        DuckDBWrite._explained = looks[name]
        seconds[name].append(written(store, versions[turn % 2], f"inputs {turn}"))
    DuckDBWrite._explained = looks["with"]
    written(store, versions[0], "the same")
    caught = written(store, versions[1], "the same")
    with_it, without = min(seconds["with"]), min(seconds["without"])
    print(
        f"{count:,} changed rows: with {with_it * 1000:.1f} ms, without {without * 1000:.1f} ms, ratio "
        f"{with_it / without:.3f} (goal 1.05); a rebuild that is caught and explained {caught * 1000:.0f} ms"
    )


def steps(folder: Path) -> None:
    """A range run with and without a check for each asset."""
    os.environ["ETL_DATA_DIR"] = str(folder)
    from etl_project import instance, utc
    from etl_project.due.drain import QUIET
    from etl_project.proofs import reproducible
    from etl_project.proofs.verify.targets import stored_assets
    from etl_project.storage import DuckDBPartitionIOManager

    first, last = DAY, DAY + timedelta(days=181)
    days, one_run = daily(DAY), dg.BackfillPolicy.single_run()
    resources = {"io_manager": DuckDBPartitionIOManager(url=str(folder / "w.duckdb"))}

    def asset(name: str) -> dg.AssetsDefinition:
        @dg.asset(name=name, partitions_def=days, backfill_policy=one_run, code_version="1")
        def table(context: dg.AssetExecutionContext) -> pa.Table:
            keys = [date.fromisoformat(key) for key in context.partition_keys]
            return pa.table({"batch_date": pa.array(keys, pa.date32()), "n": [1] * len(keys)})

        return table

    plain = dg.Definitions(
        assets=[asset(f"a{n}") for n in range(7)], resources=resources, executor=dg.in_process_executor
    )
    checks = dg.Definitions(asset_checks=reproducible.checks(stored_assets(plain, resources)))
    jobs = {
        "without": plain.resolve_implicit_global_asset_job_def(),
        "with": dg.Definitions.merge(plain, checks).resolve_implicit_global_asset_job_def(),
    }
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    with instance.opened(Path(__file__).parent.parent) as opened:
        for _ in range(5):
            for name, job in jobs.items():
                started = time.perf_counter()
                done = job.execute_in_process(instance=opened, tags=utc.run_tags(first, last), run_config=QUIET)
                assert done.success
                seconds[name].append(time.perf_counter() - started)
    best = {name: min(found) for name, found in seconds.items()}
    print(
        f"a run over 182 days of 7 assets: without checks {best['without']:.2f} s, with {best['with']:.2f} s: "
        f"{(best['with'] - best['without']) / 7 * 1000:.0f} ms a check"
    )


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["small", "large", "steps"]
    print(f"duckdb {duckdb.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="etl-benchmark-") as scratch:
        if "small" in chosen:
            writes(Path(scratch), 10_000, TRIES)
        if "large" in chosen:
            writes(Path(scratch), 1_000_000, 4)
        if "steps" in chosen:
            steps(Path(scratch) / "data")
