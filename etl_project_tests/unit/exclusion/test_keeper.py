"""Which locks a deployment has, and what is said where they cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from etl_project.exclusion import locks_at
from etl_project.storage import ExtraMissing


def test_without_the_extra_the_locks_on_a_server_say_which_one_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for module in ("postgres", "server"):
        monkeypatch.delitem(sys.modules, f"etl_project.exclusion.{module}", raising=False)
    with pytest.raises(ExtraMissing, match=r"pip install 'etl-project\[postgres\]'"):
        locks_at("postgresql://etl@localhost/etl", tmp_path)
