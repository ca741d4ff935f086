"""The IO managers alone: what they need is installed with them, and `etl` says in one line what it lacks."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from etl_project import extras

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


@pytest.mark.parametrize(
    ("code", "module", "extra"),
    [
        ("import etl_project.definitions", "dagster_duckdb", "project"),
        ("from etl_project.kafka import land", "confluent_kafka", "kafka"),
        (
            "from etl_project.cli.entry import main; import sys; sys.argv = ['etl', 'consume']; main()",
            "orjson",
            "kafka",
        ),
    ],
)
def test_code_that_needs_an_extra_says_which_one_in_its_last_line(
    code: str, module: str, extra: str, tmp_path: Path
) -> None:
    done = run_without([module], code, tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.endswith(f" needs {module}, which is not installed: pip install 'etl-project[{extra}]'"), done.stderr


def test_a_module_of_somebody_else_that_is_missing_is_no_extra_of_ours() -> None:
    assert extras.missing("etl", ModuleNotFoundError("No module named 'theirs'", name="theirs.own")) is None


def test_every_module_that_an_extra_brings_is_known_with_an_extra_that_brings_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought = {
        extra: {canonical(str(re.split(r"[^\w-]", need)[0])) for need in needs}
        for extra, needs in project["optional-dependencies"].items()
    }
    known = {module: extra for extra, names in extras.BRINGS.items() for module in names.split()}
    modules = {module: set(map(canonical, of)) for module, of in packages_distributions().items() if module in known}
    assert [module for module, extra in known.items() if not brought[extra] & modules[module]] == []
    wanted = set().union(*(brought[extra] for extra in extras.BRINGS)) - {"etl-project", "dagster", "pandas", "pyarrow"}
    assert {name for name in wanted.difference(*modules.values()) if not name.startswith("duckdb-extension")} == set()


def canonical(name: str) -> str:
    return name.lower().replace("_", "-")


def test_what_is_installed_in_any_case_is_only_what_the_io_managers_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = sorted(need.partition(">")[0] for need in project["dependencies"])
    assert names == ["dagster", "duckdb", "lazy-loader", "pandas", "pyarrow"]
    assert not any("==" in need for need in project["dependencies"])
