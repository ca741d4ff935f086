"""What every test starts from."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import threading
from collections.abc import Collection, Iterator
from itertools import count
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from etl_project import faults
from etl_project_tests import migrations, order
from etl_project_tests.deployments import FIRST_DAY, SHOP

# No test depends on what somebody has set for the project's own use, nor on the pipelines that users replace.
for _name in [name for name in os.environ if name.startswith("ETL_") and not name.startswith("ETL_TEST_")]:
    del os.environ[_name]
os.environ.pop("DAGSTER_HOME", None)
os.environ["ETL_PIPELINES"] = SHOP
# The assets of a process all have the days of the setting that was there when they were loaded, so one for all tests.
os.environ["ETL_START_DATE"] = FIRST_DAY

# A shell that starts the tests in the background has them ignore Ctrl-C. Dagster then has SIGTERM ignored like it, and
# so does what is started from here.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a disk they would wait a third of their time for syncs, which prove nothing here: what is killed are processes.
# Whoever sets TMPDIR has chosen another place.
MEMORY, ROOM_BYTES = Path("/dev/shm"), 6 << 30


def _roomy() -> bool:
    """Whether a file system in memory is there, with more than enough of it."""
    free = min(psutil.disk_usage(str(MEMORY)).free, psutil.virtual_memory().available) if MEMORY.is_dir() else 0
    return free > ROOM_BYTES and os.access(MEMORY, os.W_OK)


if "TMPDIR" not in os.environ and _roomy():
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

# The same tests must give the same answer twice: by default every property is tried on a fixed set of examples.
# `make long` draws new ones, twice as many, and prints the seed that gives them again. How long drawing takes is no
# fault of a test.
ANYHOW = {"database": None, "deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fixed", max_examples=50, derandomize=True, print_blob=False, **ANYHOW)
settings.register_profile("drawn", derandomize=False, print_blob=True, **ANYHOW)
settings.load_profile("fixed")
# Left to itself it also tries the numbers and words that stand in the code that happens to be loaded: other examples
# after other tests, after any change anywhere, and for the same seed.
providers._get_local_constants = Constants


migrations.read_once()
migrations.made_once()


SERVERS = ("ducklake", "postgres", "bucket")
"""Backends that stand on a server."""


REPEATED = "postgres"
"""A backend whose SQL core is tried whole on others: every day it is tried in what its engine has a part in."""
EVERY_DAY = {
    "test_replace.py",
    "test_ranges.py",
    "test_isolation.py",
    "test_any_order.py",
    "test_any_history.py",
    "test_publish.py",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what works on a server: what would skip without one, and the backends that stand on one.

    ETL_TEST_ORDER is the seed of another order.
    """
    for item in items:
        reasons = [str(mark.kwargs.get("reason")) for mark in item.iter_markers("skipif")]
        if any("start.sh" in reason for reason in reasons) or _is_of(item, SERVERS):
            item.add_marker(pytest.mark.servers)
        if item.path.parent.name == "contracts" and item.path.name not in EVERY_DAY and _is_of(item, (REPEATED,)):
            item.add_marker(pytest.mark.stress)
    if seed := os.environ.get("ETL_TEST_ORDER"):
        items[:] = order.shuffled([(item.path, item) for item in items], seed)


def _is_of(item: pytest.Item, backends: Collection[str]) -> bool:
    """Whether the test is one of these backends."""
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    parts = [part for value in values for part in (value if type(value) is tuple else (value,))]
    return any(part in backends for part in parts if isinstance(part, str))


def pytest_runtest_setup() -> None:
    """A fault point counts from 1 in every test, whatever a test before it in this process has armed."""
    faults._reached = count(1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """What is imported stays, and so do the tests: looking for garbage among them finds none."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Leave what is imported by now to itself: the collector would walk through all of Dagster again and again.

    What comes later is looked through less often than by default: a test makes little that has to be found.
    """
    gc.collect()
    gc.freeze()
    gc.get_freeze_count = lambda: 1  # Commands ask whether anything is; counting it walks through all of it.
    gc.set_threshold(20_000, 10, 10)
