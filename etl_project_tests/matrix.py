"""The IO managers against versions of what they stand on: one virtual environment each, the contract suite in all.

`make matrix` runs every row, `python -m etl_project_tests.matrix --short` the oldest and the newest. Needs an index to
install from. Not a test of the test run: it takes minutes, and the network.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]

ROWS: dict[str, dict[str, str]] = {
    "oldest": {"dagster": "1.12.22", "duckdb": "1.5.5", "pandas": "2.2.3", "pyarrow": "18.1.0"},
    "pandas 2.3": {"dagster": "1.13.0", "duckdb": "1.5.5", "pandas": "2.3.3", "pyarrow": "21.0.0"},
    "pinned": {"dagster": "1.13.27", "duckdb": "1.5.5", "pandas": "3.1.1", "pyarrow": "26.0.1"},
    "newest": {"dagster": "1.13.29", "duckdb": "2.0.1", "pandas": "3.1.1", "pyarrow": "26.0.1"},
}
SHORT = ("oldest", "newest")

RUN = """
import dagster as dg, pandas as pd
from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager, checked
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
"""


def tried(name: str, folder: Path) -> bool:
    """Install the row's versions and run the suite; what it says goes to the terminal."""
    place = folder / name.replace(" ", "-")
    venv.create(place, with_pip=True)
    python = str(place / "bin" / "python")
    pins = [f"{package}=={version}" for package, version in ROWS[name].items()]
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    commands = (
        [*pip, *pins, str(ROOT)],
        [python, "-m", "etl_project.storage.testing"],
        [python, "-W", "ignore", "-c", RUN],
    )
    (place / "work").mkdir()
    sys.stdout.write(f"== {name}: {', '.join(pins)}\n")
    sys.stdout.flush()
    return all(subprocess.run(one, cwd=place / "work", check=False).returncode == 0 for one in commands)


def main() -> None:
    """Try the rows; ends with 1 where one of them does not work."""
    names = SHORT if "--short" in sys.argv else tuple(ROWS)
    with tempfile.TemporaryDirectory(prefix="etl-matrix-") as folder:
        failed = [name for name in names if not tried(name, Path(folder))]
    sys.stdout.write(
        f"{len(names) - len(failed)} of {len(names)} work{', not: ' if failed else ''}{', '.join(failed)}\n"
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
