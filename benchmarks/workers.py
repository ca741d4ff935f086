"""A year of files built by one, two and four workers over a broker: how long, and what it waits for.

    python -m benchmarks.workers                       305 days of 20,000 rows
    python -m benchmarks.workers --days 60 --workers 1 4

Raw files in a bucket, tables, locks and Dagster's history in PostgreSQL, a Redis of its own; runs of ten days. Servers
are those of the tests: ETL_TEST_POSTGRES, ETL_TEST_S3 and the AWS_ variables. Prints for each number of workers the
time, the seconds that all runs together spent in the step of each asset, and how busy the processors were: steps that
take longer beside each other wait, for a table's lock where the processors are idle, for the processors where not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import psutil
import pytest

from etl_project.definitions import build_defs
from etl_project_tests import brokers, cluster, postgres, s3
from etl_project_tests.deployments import HEADER

FIRST = date(2025, 1, 1)
ASSETS = ("orders_files", "raw_orders", "orders_rejects", "orders", "daily_sales")
DAYS_PER_RUN = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=305)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    chosen = parser.parse_args()
    for count in chosen.workers:
        with tempfile.TemporaryDirectory(prefix="etl-benchmark-") as folder, pytest.MonkeyPatch.context() as patch:
            measure(Path(folder), patch, chosen.days, chosen.rows, count)


def measure(folder: Path, patch: pytest.MonkeyPatch, days: int, rows: int, workers: int) -> None:
    url = postgres.plain_url_of(folder)
    places = {"ETL_LAKE": s3.url_of(folder), "ETL_WAREHOUSE": url}
    made = cluster.on_servers(folder, url, ETL_LOCKS_LEASE_SECONDS="45", ETL_WAIT_SECONDS="900", **places)
    all_days = [FIRST + timedelta(n) for n in range(days)]
    for day in all_days:
        made.place.drop(f"{day}.csv", a_file(day, rows))
    with cluster.running(made, patch) as running, running.instance() as instance:
        job = build_defs().resolve_job_def("build_days")
        for number in range(workers):
            running.worker(f"worker-{number}")
        psutil.cpu_percent()
        began = time.perf_counter()
        runs = [
            running.launched(instance, job, (all_days[n], all_days[min(n + DAYS_PER_RUN, days) - 1]), ASSETS)
            for n in range(0, days, DAYS_PER_RUN)
        ]
        brokers.eventually(lambda: has_ended(instance, runs), "all runs end", seconds=7200, pause=0.5)
        took, busy = time.perf_counter() - began, psutil.cpu_percent()
        ends = Counter(run.status.value for run in instance.get_runs(dg.RunsFilter(run_ids=runs)))
        steps = sorted(seconds_of_steps(instance, runs).items(), key=lambda one: -one[1])
    shown = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in steps)
    print(f"{workers} workers, {days} days x {rows:,} rows: {took:.0f} s, processors {busy:.0f} % busy, {dict(ends)}")
    print(f"  in the steps of all runs: {shown}", flush=True)


def has_ended(instance: dg.DagsterInstance, runs: list[str]) -> bool:
    return all(run.is_finished for run in instance.get_runs(dg.RunsFilter(run_ids=runs)))


def seconds_of_steps(instance: dg.DagsterInstance, runs: list[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for run_id in runs:
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_SUCCESS):
            event = entry.dagster_event
            if event is not None and event.step_key is not None:
                found[event.step_key] += event.step_success_data.duration_ms / 1000
    return found


def a_file(day: date, rows: int) -> str:
    lines = (
        f"{day.toordinal() % 1000}{n:06d},A{n % 977},MUG,{n % 9 + 1},{day} 09:30:00,2.5{n % 10},{n % 5000}.0,France"
        for n in range(rows)
    )
    return "\n".join((HEADER, *lines, ""))


if __name__ == "__main__":
    main()
