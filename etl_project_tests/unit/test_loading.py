"""A process that loads code collects nothing meanwhile, and collects as before afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from etl_project.loading import without_collections


def test_nothing_is_collected_inside_and_everything_as_before_after_it() -> None:
    with without_collections():
        assert not gc.isenabled()
        with without_collections():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_fails_to_load_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), without_collections():
        raise ImportError("no such module")
    assert gc.isenabled()


def test_a_process_sets_aside_what_it_loaded_first_and_only_that() -> None:
    """So loading again and again cannot keep what former loads left behind."""
    script = """
import gc
from etl_project.loading import without_collections
assert gc.get_freeze_count() == 0
with without_collections():
    kept = [[] for _ in range(10_000)]
first = gc.get_freeze_count()
assert first > 10_000
with without_collections():
    more = [[] for _ in range(10_000)]
assert gc.get_freeze_count() == first
"""
    subprocess.run([sys.executable, "-c", script], check=True)
