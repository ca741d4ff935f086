"""What the tests read or make once of Dagster is what it reads and makes anew."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import dagster as dg

_MADE = """
import dagster as dg
with dg.DagsterInstance.local_temp(folder) as made:
    print(*made.run_storage.alembic_version(), *made.event_log_storage.alembic_version())
with dg.DagsterInstance.ephemeral() as made:
    for storage in (made.run_storage, made.event_log_storage):
        print(sorted(storage._held_conn.connection.driver_connection.iterdump()))  # Indexes are made in any order.
"""


@dg.asset
def _some() -> None: ...


def test_histories_that_a_test_makes_are_as_new_as_any_others_and_hold_nothing_of_each_other(tmp_path: Path) -> None:
    script = f"import sys; folder = sys.argv[1]{_MADE}"
    anew = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(_MADE, "<script>", "exec"), {"folder": str(tmp_path / name)})  # noqa: S102
        assert printed.getvalue() == anew.stdout
        assert dg.materialize([_some]).success  # Its run and events are in a history of their own.
