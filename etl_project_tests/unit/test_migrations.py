"""What the tests read once of Dagster is what it reads anew."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stdout
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


_TABLES = """
import dagster as dg
with dg.DagsterInstance.ephemeral() as made:
    for storage in (made.run_storage, made.event_log_storage):
        print(sorted(storage._held_conn.connection.driver_connection.iterdump()))  # Indexes are made in any order.
"""


def test_a_history_in_memory_has_the_tables_of_any_other_and_none_of_its_rows() -> None:
    anew = subprocess.run([sys.executable, "-c", _TABLES], capture_output=True, text=True, check=True).stdout
    for _ in range(3):
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(_TABLES, "<script>", "exec"), {})  # noqa: S102
        assert printed.getvalue() == anew
        dg.materialize([_some])  # Its runs and events are in a history of their own.


@dg.asset
def _some() -> None: ...
