"""`etl status` over 5,000 days of 10 assets: the screen's own time, and what starting the command costs before it.

    python benchmarks/status.py

The project is that of `quiet_tick.py`: one source, files in the archive and the lake, tables in the warehouse. The best
of three looks in one process; printing included. The start is `etl status --help` in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
from quiet_tick import make

from etl_project import utc
from etl_project.cli.status import show_status
from etl_project.due.snapshot import look
from etl_project.watch import status as statuses

DAYS = 5000


def seconds(action: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def start() -> object:
    """Python, Dagster and the command, without doing anything."""
    command = [sys.executable, "-m", "etl_project.cli", "status", "--help"]
    return subprocess.run(command, check=True, capture_output=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.ephemeral() as instance:
        project = make(Path(folder), DAYS)

        def screen() -> None:
            show_status(statuses.status(project, instance, look(project, utc.now())))

        times = sorted(seconds(screen) for _ in range(4))
    print(f"{DAYS} days x {len(project.nodes)} assets: screen {times[0]:.2f} s (first look {times[-1]:.2f} s)")
    print(f"start of the command before it: {min(seconds(start) for _ in range(3)):.2f} s")


if __name__ == "__main__":
    main()
