"""What the tests read once of Dagster is what it reads anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg

_MADE_ANEW = """
import sys, dagster as dg
with dg.DagsterInstance.local_temp(sys.argv[1]) as made:
    print(*made.run_storage.alembic_version(), *made.event_log_storage.alembic_version())
"""


def test_a_history_that_a_test_makes_is_as_new_as_any_other(tmp_path: Path) -> None:
    anew = subprocess.run([sys.executable, "-c", _MADE_ANEW, tmp_path], capture_output=True, text=True, check=True)
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        with dg.DagsterInstance.local_temp(str(tmp_path / name)) as made:
            found = (*made.run_storage.alembic_version(), *made.event_log_storage.alembic_version())
        assert anew.stdout.split() == list(found)
