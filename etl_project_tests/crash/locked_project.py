"""A small project whose asset bodies look at the lock, hang or die when told to; run in processes of its own."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow as pa

from etl_project import utc
from etl_project.declare.daily_table import daily
from etl_project.exclusion.run_lock import RunLock
from etl_project.storage import DuckDBPartitionIOManager

DATA = Path(os.environ.get("LOCKED_DATA", "."))
days = daily(date(2025, 3, 1))
policy = dg.BackfillPolicy.single_run()


def rows(context) -> pa.Table:  # type: ignore[no-untyped-def]
    keys = list(utc.days_between(*map(utc.day_of, context.partition_key_range)))
    return pa.table({"batch_date": pa.array(keys, pa.date32()), "n": [1] * len(keys)})


@dg.asset(partitions_def=days, backfill_policy=policy)
def first(context) -> pa.Table:  # type: ignore[no-untyped-def]
    return rows(context)


@dg.asset(partitions_def=days, backfill_policy=policy, deps=[first])
def second(context) -> pa.Table:  # type: ignore[no-untyped-def]
    told = DATA / "told"
    if told.exists():
        order = told.read_text()
        (DATA / "reached").write_text(str(os.getpid()))
        if order == "die":
            told.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        while told.exists():
            time.sleep(0.05)
    return rows(context)


def job() -> dg.JobDefinition:
    lock = RunLock(
        state=str(DATA / "state.sqlite"),
        locks=dg.EnvVar("LOCKS") if "LOCKS" in os.environ else None,
        lease_seconds=float(os.environ.get("LEASE", "45")),
        wait_seconds=float(os.environ.get("LOCK_WAIT", "0.5")),
    )
    executor = dg.multiprocess_executor if os.environ.get("EXECUTOR") == "multiprocess" else dg.in_process_executor
    definitions = dg.Definitions(
        assets=[first, second],
        resources={"io_manager": DuckDBPartitionIOManager(url=str(DATA / "w.duckdb"), run_lock=lock)},
        jobs=[dg.define_asset_job("both", selection="*")],
        executor=executor,
    )
    return definitions.resolve_job_def("both")


def main() -> int:
    """Run the job over the days given as arguments; 0 when it went well."""
    tags = utc.run_tags(date.fromisoformat(sys.argv[1]), date.fromisoformat(sys.argv[2]))
    home = DATA / "dagster"
    home.mkdir(exist_ok=True)
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        done = dg.execute_job(dg.reconstructable(job), instance, tags=tags, raise_on_error=False)
        for event in done.all_events:
            if event.is_failure:
                print(event.message, event.event_specific_data)
        return 0 if done.success else 1


if __name__ == "__main__":
    sys.exit(main())
