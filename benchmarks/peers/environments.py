"""Which tools are asked, what each needs, and its environment, made when it is first used."""

from __future__ import annotations

import re
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
    "iceberg": ["pyiceberg[sql-sqlite,pyarrow]", "pandas"],
    "dlt_merge": ["dlt[duckdb]", "pyarrow", "pandas", "pytz"],
    "dbt_microbatch": ["dbt-core==1.10.*", "dbt-duckdb==1.10.*", "pandas", "pytz"],
    "sqlmesh_range": ["sqlmesh[duckdb]"],
    "ducklake": ["duckdb==1.5.5", "duckdb-extension-ducklake==1.5.5", "pandas", "pytz"],
    "dagster_polars_files": ["dagster", "dagster-polars", "polars<2", "pandas", "pyarrow", "duckdb"],
    "dagster_delta": ["dagster", "dagster-deltalake-pandas", "pandas", "pyarrow"],
    "dagster_iceberg_table": ["dagster", "dagster-iceberg[pandas]", "pyiceberg[sql-sqlite,pyarrow]"],
}
"""Each writer, and what its environment needs; none for what runs in this project's own."""
TOOLS = {"tpch": ["tpchgen-cli"], "chart": ["matplotlib"]}
"""What the harness itself needs besides, each in an environment of its own."""


def python_of(name: str) -> str:
    """The interpreter of the environment of a writer or tool, which is made if it is not there yet."""
    needed = {**PEERS, **TOOLS}[name]
    if not needed:
        return sys.executable
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    complete = folder / ".complete"
    if not complete.exists() or complete.read_text().split("\n") != needed:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *needed], check=True)
        complete.write_text("\n".join(needed))
    return str(python)


def version_of(name: str, python: str) -> str:
    """What was tried: the packages that were asked for, with their versions."""
    if not PEERS[name]:
        return "duckdb of this project" if name == "by_hand" else "this checkout"
    words = [re.split(r"[\[=<]", package)[0] for package in PEERS[name]]
    code = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    return subprocess.run([python, "-c", code, *words], check=True, capture_output=True, text=True).stdout.strip()
