"""The IO managers against versions of what they stand on: one virtual environment each, the contract suite in all.

`make matrix` runs every row in a virtual environment of its own. `python -m etl_project_tests.matrix --short` runs the
oldest and the newest by laying their packages over the environment at hand, in a minute. Both need an index to install
from, so neither is a test of the test run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

OF_ONE_VERSION = ("dagster", "dagster-pipes", "dagster-shared")

ROWS: dict[str, dict[str, str]] = {
    "oldest": {"dagster": "1.11.4", "duckdb": "1.4.0", "pandas": "2.2.3", "pyarrow": "17.0.0"},
    "last of 1.11": {"python": "3.12", "dagster": "1.11.16", "duckdb": "1.4.4", "pandas": "2.2.3", "pyarrow": "18.1.0"},
    "first of 1.12": {"dagster": "1.12.0", "duckdb": "1.4.5", "pandas": "2.3.3", "pyarrow": "20.0.0"},
    "Python 3.10": {"python": "3.10", "dagster": "1.13.27", "duckdb": "1.5.5", "pandas": "2.3.3", "pyarrow": "25.0.1"},
    "pandas 2.3": {"dagster": "1.13.0", "duckdb": "1.5.5", "pandas": "2.3.3", "pyarrow": "21.0.0"},
    "pinned": {"dagster": "1.13.27", "duckdb": "1.5.5", "pandas": "3.1.1", "pyarrow": "26.0.1"},
    "newest": {"python": "3.13", "dagster": "1.13.29", "duckdb": "2.0.1", "pandas": "3.1.1", "pyarrow": "26.0.1"},
}
SHORT = ("oldest", "newest")

RUN = """
import dagster as dg, pandas as pd
from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager, checked
from etl_project.storage.dagster.scopes import UnsupportedAsset
days = dg.DailyPartitionsDefinition("2024-03-01")
span = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-02"}

@dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
def made(context) -> dg.Output[pd.DataFrame]:
    days = pd.to_datetime(context.partition_keys).date
    frame = pd.DataFrame({"batch_date": days, "n": 1, "c": pd.Categorical("a b".split())})
    return dg.Output(frame, tags={"team": "x"})

@dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
def taken(made: pd.DataFrame) -> pd.DataFrame:
    assert str(made["n"].dtype) == "int64" and str(made["c"].dtype) == "category", made.dtypes
    return made

for manager in (DuckDBPartitionIOManager(url="w.duckdb"), ParquetPartitionIOManager(root="lake")):
    defs = checked(dg.Definitions(assets=[made, taken], resources={"io_manager": manager}))
    done = dg.materialize([made, taken], resources={"io_manager": manager}, tags=span)
    events = done.asset_materializations_for_node("taken")
    assert [event.partition for event in events] == ["2024-03-01", "2024-03-02"]
    assert all(event.tags["dagster/data_version"] == event.metadata["fingerprint"].value for event in events)
    assert {event.tags["team"] for event in done.asset_materializations_for_node("made")} == {"x"}
    assert len(defs.load_asset_value("taken", partition_key="2024-03-02")) == 1

@dg.asset(metadata={"table": "MADE"}, partitions_def=days)
def rival() -> pd.DataFrame:
    raise AssertionError("this does not even load")

manager = DuckDBPartitionIOManager(url="w.duckdb")
both = {"resources": {"io_manager": manager}, "partition_key": "2024-03-01"}
try:
    dg.materialize([made, rival], **both)
except UnsupportedAsset as refused:
    assert "have one table" in str(refused), refused
else:
    raise AssertionError("two assets have one table")
"""

ONLY_WHAT_THEY_NEED = """
try:
    import etl_project.definitions
except ModuleNotFoundError as missing:
    assert str(missing).endswith("which is not installed: pip install 'etl-project[project]'"), missing
else:
    raise AssertionError("more is installed than the IO managers need")
"""


def tried(name: str, folder: Path, short: bool) -> bool:
    """Install the row's versions and run the suite; what it says goes to the terminal."""
    place = folder / name.replace(" ", "-")
    work = place / "work"
    work.mkdir(parents=True)
    sys.stdout.write(f"== {name}: {', '.join(f'{package} {version}' for package, version in ROWS[name].items())}\n")
    sys.stdout.flush()
    install, python, environment = (_laid_over if short else _of_its_own)(name, place)
    # What the project itself needs cannot be installed with Python 3.10.
    code = (RUN,) if short or ROWS[name].get("python") == "3.10" else (RUN, ONLY_WHAT_THEY_NEED)
    suite = [python, "-m", "etl_project.storage.testing"], *([python, "-W", "ignore", "-c", one] for one in code)
    commands = [*((one, None) for one in install), *((one, environment) for one in suite)]
    return all(subprocess.run(one, cwd=work, env=env, check=False).returncode == 0 for one, env in commands)


PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def _of_its_own(name: str, place: Path) -> tuple[list[list[str]], str, dict[str, str]]:
    """Commands, python and variables of an environment that has what the wheel asks for, and nothing else."""
    wanted = f"python{ROWS[name].get('python', '')}"
    interpreter = shutil.which(wanted) or sys.executable
    if not shutil.which(wanted):
        sys.stdout.write(f"   there is no {wanted}: tried with {sys.version.split()[0]}\n")
    python = str(place / "venv" / "bin" / "python")
    pins = [f"{package}=={version}" for package, version in ROWS[name].items() if package != "python"]
    return (
        [[interpreter, "-m", "venv", str(place / "venv")], [python, *PIP, *pins, str(ROOT)]],
        python,
        dict(os.environ),
    )


def _laid_over(name: str, place: Path) -> tuple[list[list[str]], str, dict[str, str]]:
    """The same for a folder of the row's packages that lies over the environment at hand, with its Python."""
    versions = {package: version for package, version in ROWS[name].items() if package != "python"}
    versions |= dict.fromkeys(OF_ONE_VERSION, versions["dagster"])
    pins = [f"{package}=={version}" for package, version in versions.items()]
    over = str(place / "packages")
    path = os.pathsep.join((over, str(ROOT)))
    install = [sys.executable, *PIP, "--no-compile", "--no-deps", "--target", over, *pins]
    return [install], sys.executable, {**os.environ, "PYTHONPATH": path}


def main() -> None:
    """Try the rows; ends with 1 where one of them does not work."""
    short = "--short" in sys.argv
    names = SHORT if short else tuple(ROWS)
    with tempfile.TemporaryDirectory(prefix="etl-matrix-") as folder:
        failed = [name for name in names if not tried(name, Path(folder), short)]
    sys.stdout.write(
        f"{len(names) - len(failed)} of {len(names)} work{', not: ' if failed else ''}{', '.join(failed)}\n"
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
