"""Properties are tried on a fixed set of examples unless new ones are asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

_TEST = """
from hypothesis import given, strategies as st

@given(st.integers())
def test_drawn(number):
    print("drew", number)
"""


def drawn(folder: Path, *options: str) -> list[str]:
    """The examples that a property is tried on, in a process of its own with this project's set-up."""
    (folder / "test_drawn.py").write_text(_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "etl_project_tests.conftest", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *options, str(folder)], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if "drew" in line]


def test_the_examples_are_the_same_whatever_was_loaded_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    @settings(max_examples=200)
    @given(st.integers())
    def property_of(number: int) -> None:
        tried.append(number)

    property_of()
    first = tried.copy()
    tried.clear()
    loaded = ModuleType("loaded_in_between")
    loaded.__file__ = str(tmp_path / "loaded_in_between.py")
    Path(loaded.__file__).write_text(f"NUMBERS = {[10**9 + n for n in range(500)]}\n")
    monkeypatch.setitem(sys.modules, loaded.__name__, loaded)
    property_of()
    assert tried == first


@pytest.mark.long
def test_two_runs_of_the_tests_try_the_same_examples(tmp_path: Path) -> None:
    first = drawn(tmp_path)
    assert len(first) > 10
    assert drawn(tmp_path) == first


@pytest.mark.long
def test_a_seed_draws_other_examples_and_draws_them_again(tmp_path: Path) -> None:
    first = drawn(tmp_path, "--hypothesis-profile=drawn", "--hypothesis-seed=1")
    assert drawn(tmp_path, "--hypothesis-profile=drawn", "--hypothesis-seed=1") == first
    assert drawn(tmp_path, "--hypothesis-profile=drawn", "--hypothesis-seed=2") != first
