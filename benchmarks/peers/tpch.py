"""TPC-H's orders and line items by day: all loaded at once, then thirty days of them replaced, drawn by a seed.

Us and what others use, beside DuckDB alone. tpchgen-cli makes the rows (scale factor 1: 6 million line items of 16
columns over 2,526 days of shipping, 1.5 million orders of 9 columns over 2,406 days). Each writer is that of
`correct.py`; what `by_hand` does is the floor. The imports of a first write count in "all days".

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
from environments import WRITERS, python_of, version_of
from trial import Trial

FLOOR = "by_hand"
TABLES = {"orders": ("o_orderdate", "o_totalprice"), "lineitem": ("l_shipdate", "l_quantity")}
"""Of each table its day, and a figure that is corrected."""
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
    for table in TABLES:
        with tempfile.TemporaryDirectory(prefix="tpch-") as made:
            source, days = _rows(table, Path(made), options.scale)
            _table(table, source, days, names, options)


def _table(table: str, source: Path, days: list[str], names: list[str], options: argparse.Namespace) -> None:
    """Ask each writer, and print a line of it as a multiple of the first."""
    chosen = sorted(random.Random(22).sample(days, options.days))
    files = [(day, _day(table, source, day)) for day in chosen]
    print(f"\n| {table}, scale {options.scale:g}, {len(days):,} days | all: s | CPU s | of floor | ", end="")
    print(f"a day, median of {len(files)}: s | CPU s | of floor |\n|---|---|---|---|---|---|---|")
    floor: tuple[float, float] | None = None
    for name in names:
        with tempfile.TemporaryDirectory(prefix="tpch-") as folder:
            trial = Trial(python_of(name), WRITERS / f"{name}.py", Path(folder), 0, 0)
            whole, each = trial.whole(days[0], days[-1], source), trial.each(files)
        seconds, processor = (statistics.median(figures) for figures in zip(*each, strict=True))
        floor = floor or (whole.processor_seconds, processor)
        figures = [whole.seconds, whole.processor_seconds, whole.processor_seconds / floor[0]]
        words = [*(f"{figure:.1f}" for figure in figures), f"{seconds:.3f}", f"{processor:.3f}"]
        print(f"| {name} | {' | '.join(words)} | {processor / floor[1]:.1f} |", flush=True)


def _rows(table: str, folder: Path, scale: float) -> tuple[Path, list[str]]:
    """The table with its day as `batch_date`, in order of days, and all days there are."""
    tool = Path(python_of("tpch")).with_name("tpchgen-cli")
    command = [tool, "parquet", "-q", "-s", f"{scale:g}", "--tables", table, "--output-dir", folder]
    subprocess.run(command, check=True)
    file = folder / "by_day.parquet"
    with duckdb.connect() as db:
        day, _ = TABLES[table]
        by_day = f"SELECT {day} AS batch_date, * EXCLUDE ({day}) FROM '{folder}/{table}.parquet'"
        db.execute(f"COPY ({by_day} ORDER BY batch_date) TO '{file}' (FORMAT parquet)")
        days = db.execute(f"SELECT DISTINCT batch_date FROM '{file}' ORDER BY 1").fetchall()
    return file, [day.isoformat() for (day,) in days]


def _day(table: str, source: Path, day: str) -> Path:
    """A corrected day: the same rows, each with a figure that is one more."""
    file, (_, figure) = source.with_name(f"{day}.parquet"), TABLES[table]
    with duckdb.connect() as db:
        more = f"CAST({figure} + 1 AS DECIMAL(15, 2)) AS {figure}"
        corrected = f"SELECT * REPLACE ({more}) FROM '{source}' WHERE batch_date = '{day}'"
        db.execute(f"COPY ({corrected}) TO '{file}' (FORMAT parquet)")
    return file


if __name__ == "__main__":
    main()
