"""What the fork server does before its first fork: it loads whatever the processes of the tests will use.

A drain that finds nothing to do loads nearly all of it, Dagster's storage among it; the rest, named here, would be a
fifth of what a small drain costs. What must not come along: threads, since a fork has one and would wait for ever for
what another one held; and the modules of the pipelines, whose assets keep the days of the settings with which they were
loaded.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
import warnings
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

from etl_project.cli.main import COMMANDS, app, load
from etl_project.failures import EtlError
from etl_project_tests import migrations
from etl_project_tests.deployments import SHOP

ALSO = (
    "dagster._core.execution.execute_in_process",
    "dagster._core.executor.in_process",
    "etl_project.http_in.receiver",
    "etl_project.http_out.client",
    "etl_project.kafka.landing",
    "etl_project_tests.contracts.world",
    "etl_project_tests.kafka_broker",
    "etl_project_tests.unit.http_in.servers",
    "etl_project_tests.unit.sources.world",
    "pyarrow.dataset",
    "sqlglot.dialects.duckdb",
    "sqlglot.optimizer.qualify",
)


def warm_up() -> None:
    """Import it all, and drain an empty folder once."""
    for name in COMMANDS:
        load(name)
    for name in ALSO:
        with suppress(ImportError, EtlError):  # It needs an extra that is not there; who uses it will say so.
            import_module(name)
    with tempfile.TemporaryDirectory(prefix="etl-warm-") as folder, Path(os.devnull).open("w") as nowhere:
        quiet = {"ETL_DATA_DIR": f"{folder}/data", "ETL_WAIT_SECONDS": "60"}
        with patch.dict(os.environ, quiet), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            app(["drain"], standalone_mode=False)
            app(["status"], standalone_mode=False)
    for name in [name for name in sys.modules if name.startswith(f"{SHOP}.")]:
        del sys.modules[name]
    left = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if left:
        raise RuntimeError(f"threads are left in the process that tests are forked from: {left}")


migrations.read_once()
migrations.made_once()
warm_up()
gc.freeze()
gc.enable()
gc.get_freeze_count = lambda: 1  # Every fork asks whether anything is frozen; counting it walks through all of it.
