"""Which tools are asked, what each needs, and its environment, made when it is first used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WRITERS = Path(__file__).resolve().parent / "writers"
ENVIRONMENTS = WRITERS.parents[2] / "build" / "peers"
PEERS = {
    "ours_table": [],
    "ours_lake": [],
    "by_hand": [],
    "stock_io_manager": ["dagster", "dagster-duckdb-pandas", "pyarrow"],
    "delta": ["deltalake", "pandas", "pyarrow"],
    "iceberg": ["pyiceberg[sql-sqlite,pyarrow]"],
    "dlt_merge": ["dlt[duckdb]", "pyarrow"],
    "dbt_microbatch": ["dbt-core==1.10.*", "dbt-duckdb==1.10.*"],
    "sqlmesh_range": ["sqlmesh[duckdb]"],
}
"""Each writer, and what its environment needs; none for what runs in this project's own."""


def python_of(name: str) -> str:
    """The interpreter of the writer's environment, which is made if it is not there yet."""
    if not PEERS[name]:
        return sys.executable
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    complete = folder / ".complete"
    if not complete.exists() or complete.read_text().split() != PEERS[name]:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS[name]], check=True)
        complete.write_text("\n".join(PEERS[name]))
    return str(python)


def version_of(name: str, python: str) -> str:
    """What was tried: the packages that were asked for, with their versions."""
    if not PEERS[name]:
        return "duckdb of this project" if name == "by_hand" else "this checkout"
    words = [package.partition("[")[0].partition("=")[0] for package in PEERS[name]]
    code = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    return subprocess.run([python, "-c", code, *words], check=True, capture_output=True, text=True).stdout.strip()
