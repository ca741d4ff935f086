"""How long a first load of many daily files takes, beside what could not be faster.

In one run, alternating: (1) `etl drain` over the files, (2) the same drain over assets that do nothing, which is the
cost of Dagster's events and of starting a process, (3) one DuckDB script that does the same SQL over the same files.
Prints (drain - no-op drain) / script, and how many runs the drain made. Usage:
`python benchmarks/drain.py [--files FOLDER] [--days 141] [--kilobytes 130] [--rounds 3]`; without a folder it makes
files of the size of a small shop that is closed on Saturdays. `--days 305 --kilobytes 150` is the load of a year.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from itertools import count, islice
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=Path, help="folder of daily CSV files with the orders' header")
    parser.add_argument("--days", type=int, default=141, help="files to make where no folder is given")
    parser.add_argument("--kilobytes", type=int, default=130, help="size of each of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["script", "noop"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only == "noop":
        noop_drain()
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.files or made_files(Path(scratch) / "made", arguments.days, arguments.kilobytes * 1000)
        if arguments.only == "script":
            plain_script(folder, Path(scratch) / "plain")
            return
        report(folder, arguments.rounds, Path(scratch))


def report(folder: Path, rounds: int, scratch: Path) -> None:
    """Run all three in turn and print medians and the ratio."""
    files = sorted(folder.glob("*.csv"))
    print(
        f"{len(files)} files, {sum(f.stat().st_size for f in files) / 1e6:.1f} MB; {rounds} rounds, medians of seconds"
    )
    drains, noops, scripts, runs = [], [], [], []
    for number in range(rounds):
        data = scratch / f"drain-{number}"
        shutil.copytree(folder, data / "incoming" / "orders")
        seconds, told = timed(data, "-m", "etl_project.cli", "drain")
        drains.append(seconds)
        runs += [int(line.split()[0]) for line in told.splitlines() if " runs, " in line]
        first, last = (date.fromisoformat(f.stem[-10:]) for f in (files[0], files[-1]))
        noops.append(timed(scratch / f"noop-{number}", __file__, "--only", "noop", FIRST=str(first), LAST=str(last))[0])
        started = time.perf_counter()
        plain_script(folder, scratch / f"script-{number}")
        scripts.append(time.perf_counter() - started)
        shutil.rmtree(data)
    drain, noop, script = map(statistics.median, (drains, noops, scripts))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"etl drain                         {drain:7.2f}   ({min(drains):.2f} to {max(drains):.2f})")
    print(f"same drain, no-op assets (floor)  {noop:7.2f}   ({min(noops):.2f} to {max(noops):.2f})")
    print(f"one DuckDB script                 {script:7.2f}   ({min(scripts):.2f} to {max(scripts):.2f})")
    print(f"(drain - floor) / script          {(drain - noop) / script:7.2f}   asked for: at most 4")
    print(f"runs of a drain                   {max(runs):>7}   asked for: at most 3")
    print(f"peak memory of a child, MB        {peak:7.0f}   asked for: under 600")


def timed(data: Path, *command: str, **environment: str) -> tuple[float, str]:
    """Wall seconds of a whole process that works on its own data folder, and what it printed."""
    environ = {**os.environ, "ETL_DATA_DIR": str(data), "ETL_SETTLE_SECONDS": "0", **environment}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)} exited {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - started, done.stdout


def noop_drain() -> None:
    """The drain's runs over assets of the same names that do nothing: only Dagster's own work is left."""
    import dagster as dg

    from etl_project import instance as instances
    from etl_project import utc
    from etl_project.declare.daily_table import daily_partitions, single_run
    from etl_project.definitions import load_project
    from etl_project.due import attempts
    from etl_project.due.drain import QUIET

    project, _ = load_project()
    assets = [noop_asset(dg, node.asset, node.upstream, daily_partitions(), single_run()) for node in project.nodes]
    job = dg.Definitions(assets=assets, executor=dg.in_process_executor).resolve_implicit_global_asset_job_def()
    first, last = date.fromisoformat(os.environ["FIRST"]), date.fromisoformat(os.environ["LAST"])
    with instances.opened() as instance:
        tags = {**utc.run_tags(first, last), attempts.STATE_TAG: "no-op"}
        assert job.execute_in_process(instance=instance, tags=tags, run_config=QUIET).success


def noop_asset(dg, name, upstream, days, policy):  # type: ignore[no-untyped-def]
    """An asset of this name that returns at once."""

    @dg.asset(name=name, deps=list(upstream), partitions_def=days, backfill_policy=policy)
    def nothing() -> None:
        return None

    return nothing


def plain_script(folder: Path, target: Path) -> None:
    """The same SQL over the same files, with nothing kept safe."""
    import duckdb

    target.mkdir(parents=True)
    sql = ROOT / "etl_project" / "pipelines" / "orders"
    with duckdb.connect(str(target / "warehouse.duckdb")) as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute((sql / "contract.sql").read_text())
        connection.execute(f"""
            copy (
                select regexp_extract(filename, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}')::date as batch_date,
                       parse_filename(filename) as source_file,
                       row_number() over (partition by filename) + 1 as source_line,
                       InvoiceNo as invoice_no, StockCode as stock_code, Description as description,
                       Quantity::integer as quantity,
                       timezone('Europe/London', InvoiceDate::timestamp) as invoiced_at,
                       UnitPrice::decimal(12, 3) as unit_price,
                       CustomerID::double::bigint as customer_id, Country as country
                from read_csv('{folder}/*.csv', all_varchar = true, filename = true, header = true)
            ) to '{target}/raw' (format parquet, partition_by (batch_date))""")
        connection.execute(f"""
            insert into orders by name
            select * exclude (source_file, source_line),
                   row_number() over (partition by batch_date, invoice_no order by source_file, source_line) as line_no
            from read_parquet('{target}/raw/*/*.parquet', hive_partitioning = true)""")
        connection.execute("""
            insert into daily_sales
            select batch_date, stock_code, sum(quantity), sum(quantity * unit_price), count(distinct invoice_no)
            from orders group by all""")
        connection.execute("""
            insert into daily_customers
            select batch_date, customer_id, count(distinct invoice_no), sum(quantity), sum(quantity * unit_price)
            from orders group by all""")
        days = connection.execute("select min(batch_date), max(batch_date) from orders").fetchone()
        report = (sql / "report_rows.sql").read_text()
        connection.execute(f"insert into daily_report by name {report}", {"first": str(days[0]), "last": str(days[1])})


def made_files(folder: Path, days: int, size_bytes: int) -> Path:
    """Files of at least this size for so many days, none of them a Saturday, for machines without real ones."""
    from etl_project.demo import sample

    folder.mkdir(parents=True)
    open_days = (day for n in count(1) if (day := sample.FIRST - timedelta(days=n)).weekday() != sample.SATURDAY)
    for day in islice(open_days, days):
        rows: list[sample.Row] = []
        for copy in count():
            rows += sample.rows_of(day + timedelta(days=1000 * copy))
            content = sample.as_csv(sample.HEADER, rows)
            if len(content) >= size_bytes:
                break
        (folder / f"{day}.csv").write_bytes(content)
    return folder


if __name__ == "__main__":
    main()
