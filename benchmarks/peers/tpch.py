"""TPC-H's line items by their day of shipping: all loaded at once, then thirty days of them replaced.

Us and what others use, beside DuckDB alone. tpchgen-cli makes the rows (scale factor 1: 6 million of 16 columns, 2,526
days). Each writer is that of `correct.py`; what `by_hand` does is the floor. What is loaded is counted and summed in
the end: a writer that ends with other rows than the floor is named.

    python benchmarks/peers/tpch.py [--only WRITER ...] [--scale 1] [--days 30]
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import tempfile
from pathlib import Path

import duckdb
from environments import PEERS, WRITERS, python_of, version_of
from trial import Trial

FLOOR = "by_hand"
CAN = ["by_hand", "ours_table", "ours_lake", "stock_io_manager", "ducklake", "delta", "iceberg"]
"""Those that take all days at once. dlt, dbt and SQLMesh are asked in `backlog.py`, whose work is theirs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=CAN, default=CAN)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--days", type=int, default=30)
    options = parser.parse_args()
    names = [name for name in CAN if name in {*options.only, FLOOR}]
    print(*(f"{name}: {version_of(name, python_of(name))}" for name in names), sep="\n")
    with tempfile.TemporaryDirectory(prefix="tpch-") as made:
        source, days = _rows(Path(made), options.scale)
        chosen = sorted(random.Random(22).sample(days, options.days))
        files = [(day, _day(source, Path(made), day)) for day in chosen]
        print(f"\n| TPC-H scale {options.scale:g}, {len(days):,} days | all days: s | CPU s | of floor | a day: s | CPU s | of floor |")
        print("|---|---|---|---|---|---|---|")
        floor: tuple[float, float] | None = None
        for name in names:
            with tempfile.TemporaryDirectory(prefix="tpch-") as folder:
                trial = Trial(python_of(name), WRITERS / f"{name}.py", Path(folder), 0, 0)
                whole = trial.whole(days[0], days[-1], source)
                each = trial.each(files)
            seconds, processor = (statistics.median(figures) for figures in zip(*each, strict=True))
            floor = floor or (whole.processor_seconds, processor)
            print(
                f"| {name} | {whole.seconds:.1f} | {whole.processor_seconds:.1f} | "
                f"{whole.processor_seconds / floor[0]:.1f} | {seconds:.2f} | {processor:.2f} | {processor / floor[1]:.1f} |",
                flush=True,
            )


def _rows(folder: Path, scale: float) -> tuple[Path, list[str]]:
    """The line items with the day of shipping as `batch_date`, in order of days, and all days there are."""
    tool = Path(python_of("tpch")).with_name("tpchgen-cli")
    command = [tool, "-s", f"{scale:g}", "--tables", "lineitem", "--format", "parquet", "--output-dir", folder]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    file = folder / "by_day.parquet"
    with duckdb.connect() as db:
        ours = f"SELECT l_shipdate AS batch_date, * EXCLUDE (l_shipdate) FROM '{folder}/lineitem.parquet'"
        db.execute(f"COPY ({ours} ORDER BY batch_date) TO '{file}' (FORMAT parquet)")
        days = db.execute(f"SELECT DISTINCT batch_date FROM '{file}' ORDER BY 1").fetchall()
    return file, [day.isoformat() for (day,) in days]


def _day(source: Path, folder: Path, day: str) -> Path:
    """A corrected day: the same rows, each with one piece more."""
    file = folder / f"{day}.parquet"
    with duckdb.connect() as db:
        corrected = f"SELECT * REPLACE (l_quantity + 1 AS l_quantity) FROM '{source}' WHERE batch_date = '{day}'"
        db.execute(f"COPY ({corrected}) TO '{file}' (FORMAT parquet)")
    return file


if __name__ == "__main__":
    main()
