"""The IO managers alone: what they need is installed with them, and `etl` says in one line what it lacks."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]

WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition('.')[0])

sys.meta_path.insert(0, Missing())
{code}
"""

EXTRA = ["anyio", "dagster_webserver", "dagster_duckdb", "httpx2", "psutil", "rich", "stamina", "starlette", "typer"]
OPTIONAL = ["polars", "confluent_kafka", "uvicorn"]


def run_without(names: list[str], code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT.format(names=names, code=code)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)


def test_the_io_managers_work_without_what_only_the_project_needs(tmp_path: Path) -> None:
    code = """
import dagster as dg, pandas as pd
from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager, checked

@dg.asset
def made() -> pd.DataFrame:
    return pd.DataFrame({"n": [1]})

for manager in (DuckDBPartitionIOManager(url="w.duckdb"), ParquetPartitionIOManager(root="lake")):
    defs = checked(dg.Definitions(assets=[made], resources={"io_manager": manager}))
    assert dg.materialize([made], resources={"io_manager": manager}).success
    assert defs.load_asset_value("made")["n"].tolist() == [1]
"""
    done = run_without([*EXTRA, *OPTIONAL], code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def test_etl_says_in_one_line_what_is_missing(tmp_path: Path) -> None:
    done = run_without(["typer"], "from etl_project.cli.entry import main; main()", tmp_path)
    assert (done.returncode, done.stderr.strip()) == (
        1,
        "etl needs typer, which is not installed: pip install 'etl-project[project]'",
    )


def test_what_is_installed_in_any_case_is_only_what_the_io_managers_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = sorted(need.partition(">")[0] for need in project["dependencies"])
    assert names == ["dagster", "duckdb", "lazy-loader", "pandas", "pyarrow"]
    assert not any("==" in need for need in project["dependencies"])
