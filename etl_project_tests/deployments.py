"""Help for tests that run the real project in a folder of their own, in processes of their own.

Belongs here: starting `etl` and reading back what it left, through fresh connections. Nothing is mocked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_project.cli.main import main
from etl_project_tests.forks import FORKS

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "etl_project" / "pipelines"
SHOP = "etl_project_tests.shop"
REAL_FILES = ROOT.parent / "shared" / "data" / "online_retail" / "by-day"
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
TABLES = ("orders", "orders_rejects", "daily_sales", "daily_customers", "daily_report")

FIRST_DAY = "2025-01-01"
"""Dagster walks through all days that exist in every check of a range: few of them make quick tests."""

needs_real_files = pytest.mark.skipif(
    not REAL_FILES.is_dir(), reason=f"the real files (UCI Online Retail, one CSV a day) are not in {REAL_FILES}"
)
HAS_SAMPLE = all((SAMPLE / name / "defs.yaml").is_file() for name in ("orders", "payments", "report_delivery"))
needs_sample = pytest.mark.skipif(
    not HAS_SAMPLE,
    reason="the sample, which the demo works on, was taken out",
)


def _etl(arguments: tuple[str, ...], environment: dict[str, str], folder: Path, out: Path, err: Path) -> None:
    """The body of a process that is the `etl` command."""
    _become(["etl", *arguments], environment, folder, out, err)
    main()


def _script(arguments: tuple[str, ...], environment: dict[str, str], folder: Path, out: Path, err: Path) -> None:
    """The body of a process that runs a script, the first of the arguments."""
    script, *rest = arguments
    _become(["-c", *rest], environment, folder, out, err)
    warnings.simplefilter("ignore")
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})  # noqa: S102


def _become(argv: list[str], environment: dict[str, str], folder: Path, out: Path, err: Path) -> None:
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # These two are remembered from before the fork.
    time.tzset()
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep) if environment.get("PYTHONPATH") else []
    sys.argv = argv


RUN_CHECKS = """
import json, dagster as dg
from etl_project.definitions import build_defs
job = dg.define_asset_job("checks", selection=dg.AssetSelection.all_asset_checks())
job = dg.Definitions.merge(build_defs(), dg.Definitions(jobs=[job])).resolve_job_def("checks")
done = job.execute_in_process(run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}})
found = {}
for e in done.get_asset_check_evaluations():
    well = e.passed or e.severity is dg.AssetCheckSeverity.WARN
    found[e.check_name] = found.get(e.check_name, True) and well
print(json.dumps(found))
"""

MATERIALIZE = """
import json, sys, dagster as dg
from datetime import date
from etl_project import instance, utc
from etl_project.due import execution, failure_words
from etl_project.definitions import build_defs
first, last = map(date.fromisoformat, sys.argv[2:])
with instance.opened() as opened:
    job = build_defs().resolve_job_def("build_days")
    tags = utc.run_tags(first, last)
    done = job.execute_in_process(
        instance=opened, tags=tags, asset_selection=[dg.AssetKey(sys.argv[1])],
        raise_on_error=False, run_config=execution.QUIET,
    )
print(json.dumps([failure_words.complaint(event.step_failure_data) for event in done.get_step_failure_events()]))
"""

FAILED_PARTITIONS = """
import json, sys, dagster as dg
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from etl_project import instance
from etl_project.declare.daily_table import daily_partitions
with instance.opened() as opened:
    days = daily_partitions()
    cached = get_and_update_asset_status_cache_value(opened, dg.AssetKey(sys.argv[1]), days)
    print(json.dumps(sorted(cached.deserialize_failed_partition_subsets(days).get_partition_keys())))
"""


@dataclass(frozen=True)
class Place:
    """A folder with all the state of one deployment; its commands run in `folder`."""

    data: Path
    folder: Path = ROOT

    @property
    def incoming(self) -> Path:
        """The drop folder of the orders."""
        return self.data / "incoming" / "orders"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a process that works on this deployment."""
        base = {key: value for key, value in os.environ.items() if key not in ("DAGSTER_HOME", "ETL_FAULT")}
        return {**base, "ETL_DATA_DIR": str(self.data), "ETL_SETTLE_SECONDS": "0", **more}

    def etl(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the `etl` command to its end, in a process of its own."""
        return self._process(_etl, arguments, self.environment(**more))

    def _process(
        self, body: Callable[..., None], arguments: tuple[str, ...], environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as folder:
            printed = [Path(folder) / name for name in ("out", "err")]
            process = FORKS.Process(target=body, args=(arguments, environment, self.folder, *printed))
            process.start()
            process.join(240)
            if process.exitcode is None:
                process.kill()
                pytest.fail(f"{arguments} did not end: {[path.read_text() for path in printed]}")
            return subprocess.CompletedProcess(arguments, process.exitcode, *(path.read_text() for path in printed))

    def drained(self, expected_exit: int = 0, **more: str) -> str:
        """Drain, and give what was printed; the exit code has to be the expected one."""
        done = self.etl("drain", **more)
        assert done.returncode == expected_exit, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def drop(self, name: str, text: str) -> None:
        """Put a file into the drop folder the way a careful sender does."""
        self.incoming.mkdir(parents=True, exist_ok=True)
        aside = self.incoming / f".{name}.tmp"
        aside.write_text(text)
        aside.rename(self.incoming / name)

    def drop_released(self, name: str, text: str) -> None:
        """Put a file that is refused into the drop folder once more, by a release: now its tables alone judge it."""
        self.drop(name, text)
        self.drained(expected_exit=1)
        done = self.etl("quarantine", "release", "--matching", name)
        assert done.returncode == 0, done.stdout + done.stderr

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """Rows of a query on the warehouse, through a connection of its own."""
        with duckdb.connect(str(self.data / "warehouse.duckdb"), read_only=True) as connection:
            connection.execute("set timezone = 'UTC'")
            return connection.execute(sql).fetchall()

    def tables(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of every table, in an order of its own, and every raw row: what two ends are compared by."""
        found = {name: self.query(f"select * from {name} order by all") for name in TABLES}
        lake = self.data / "lake" / "raw_orders"
        with duckdb.connect() as connection:
            connection.execute("set timezone = 'UTC'")
            found["raw_orders"] = connection.execute(
                f"select * from read_parquet('{lake}/*/data.parquet') order by all"
            ).fetchall()
        return found

    def last_commits(self) -> dict[tuple[str, str], tuple[int, str, bool]]:
        """Of every (asset, day) in the warehouse: number of commits, last fingerprint, whether the last one changed."""
        rows = self.query(
            "select asset, partition_key, count(*), arg_max(fingerprint, sequence), arg_max(changed, sequence) "
            "from etl_commits group by all"
        )
        return {(str(asset), str(key)): (int(str(n)), str(f), bool(c)) for asset, key, n, f, c in rows}

    def checks(self) -> dict[str, bool]:
        """Run every asset check on its own, over all days, in a process of its own: which find no error anywhere."""
        found: dict[str, bool] = self.python(RUN_CHECKS)
        return found

    def materialized(self, asset: str, first: date, last: date) -> list[str]:
        """Build one asset over these days, as a backfill from the UI does: the complaints of the failed steps."""
        found: list[str] = self.python(MATERIALIZE, asset, str(first), str(last))
        return found

    def failed_partitions(self, asset: str) -> set[str]:
        """The partitions that Dagster shows as failed."""
        return set(self.python(FAILED_PARTITIONS, asset))

    def python(self, script: str, *arguments: str) -> Any:
        """What a script prints as JSON, in a process of its own."""
        done = self._process(_script, (script, *arguments), self.environment())
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def leftovers(self) -> list[str]:
        """Temporary and claimed files that should not be there once everything has run."""
        kept = (path for path in self.data.rglob("*") if path.is_file() and "dagster" not in path.parts)
        return sorted(str(path) for path in kept if path.name.startswith(".etl-") or ".taken" in path.parts)


def order_file(day: date, invoices: int = 3, price: str = "2.50") -> str:
    """A small file of a day: as many invoices of two lines each."""
    lines = [HEADER]
    for number in range(invoices):
        invoice = 1000 * day.toordinal() % 1_000_000 + number
        lines += [
            f"{invoice},A1,MUG,2,{day} 09:30:00,{price},1400{number}.0,France",
            f"{invoice},B2,TIN,{number + 1},{day} 09:30:00,1.255,1400{number}.0,France",
        ]
    return "\n".join(lines) + "\n"
