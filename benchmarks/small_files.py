"""Many small files: how long a drain takes to bring them in, its runs and its peak memory, beside the bare floor.

Files as Kafka's landings are (JSON lines of a few rows) and small CSVs. In one run: (1) `etl drain` over all of them,
(2) `etl drain` after one more file came to the last day, (3) `etl drain` with nothing to do, (4) the floor: list the
folder, read every file, and put what was read into a DuckDB table with one insert. The target of a day is exactly the
files of the day, so one more file builds the day anew from all of its files.

`python benchmarks/small_files.py [--format jsonl|csv] [--days 1] [--files 100000] [--rows 5]`; `--files` are a day's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

ROOT = Path(__file__).parent.parent
FIRST = date(2025, 3, 1)
CONTRACT = """CREATE TABLE small (
    batch_date DATE NOT NULL, id BIGINT NOT NULL, shop VARCHAR NOT NULL, amount DECIMAL(12, 2) NOT NULL,
    sold_at TIMESTAMPTZ NOT NULL, note VARCHAR
);
"""
DEFS = """type: etl_project.sources.component.FileSource
attributes:
  name: small
  format: {format}
  patterns: ["{{date}}/*.{format}"]
  columns: {{id: id, shop: shop, amount: amount, sold_at: sold_at, note: note}}
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=["jsonl", "csv"], default="jsonl")
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--files", type=int, default=100_000, help="files of each day")
    parser.add_argument("--rows", type=int, default=5, help="rows of each file")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report(asked, Path(scratch))


def report(asked: argparse.Namespace, scratch: Path) -> None:
    """Make the files, run everything, print the numbers."""
    pipeline = scratch / "bench_small" / "small"
    pipeline.mkdir(parents=True)
    (pipeline.parent / "__init__.py").touch()
    (pipeline / "contract.sql").write_text(CONTRACT)
    (pipeline / "defs.yaml").write_text(DEFS.format(format=asked.format))
    drop = scratch / "data" / "incoming" / "small"
    for day in range(asked.days):
        for number in range(asked.files):
            made_file(drop, asked.format, FIRST + timedelta(days=day), number, asked.rows)
    floor = timed(lambda: bare(drop, asked.format))
    first = drained(scratch)
    made_file(drop, asked.format, FIRST + timedelta(days=asked.days - 1), asked.files, asked.rows)
    one_more = drained(scratch)
    nothing = drained(scratch)
    rows = rows_of(scratch)
    assert rows == (asked.days * asked.files + 1) * asked.rows, rows
    count = asked.days * asked.files
    print(f"{count} {asked.format} files of {asked.rows} rows in {asked.days} days; {os.cpu_count()} cpus")
    print(f"list, read, one insert (floor)  {floor:7.2f} s")
    for what, (seconds, cpu, told, peak) in (
        ("all of them", first),
        ("one more file", one_more),
        ("nothing to do", nothing),
    ):
        print(f"etl drain, {what:15s}      {seconds:7.2f} s  {cpu:7.2f} s CPU  {peak:5.0f} MB  {told}")
    print(f"first drain / floor             {first[0] / floor:7.1f}")
    print(
        json.dumps(
            {
                "benchmark": "small_files",
                "format": asked.format,
                "days": asked.days,
                "files": asked.files,
                "first_seconds": round(first[0], 1),
                "one_more_seconds": round(one_more[0], 1),
                "floor_seconds": round(floor, 2),
                "peak_mb": round(max(first[3], one_more[3])),
            }
        )
    )


def made_file(drop: Path, form: str, day: date, number: int, rows: int) -> None:
    """One file of its day, like no other."""
    path = drop / str(day) / f"part-{number:06d}.{form}"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = [
        {
            "id": number * rows + row,
            "shop": f"shop-{number % 17:02d}",
            "amount": f"{(number * 7 + row) % 10_000 / 100:.2f}",
            "sold_at": f"{day}T{number % 24:02d}:{row % 60:02d}:00Z",
            "note": None if row % 3 else f"note {row}",
        }
        for row in range(rows)
    ]
    if form == "jsonl":
        text = "".join(json.dumps(value) + "\n" for value in values)
    else:
        lines = [",".join(values[0])]
        lines += [",".join("" if value is None else str(value) for value in one.values()) for one in values]
        text = "\n".join(lines) + "\n"
    path.write_text(text)


def timed(work) -> float:  # type: ignore[no-untyped-def]
    """Wall seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def bare(drop: Path, form: str) -> None:
    """List, read, one insert: nothing is checked, nothing is kept safe."""
    import duckdb

    with tempfile.NamedTemporaryFile(suffix=f".{form}") as joined:
        for folder in sorted(os.scandir(drop), key=lambda one: one.name):
            for entry in os.scandir(folder.path):
                text = Path(entry.path).read_bytes()
                joined.write(text if form == "jsonl" else text.partition(b"\n")[2])
        joined.flush()
        with duckdb.connect() as connection:
            read = "read_json" if form == "jsonl" else "read_csv"
            connection.execute(f"CREATE TABLE small AS SELECT * FROM {read}('{joined.name}')")


def drained(scratch: Path) -> tuple[float, float, str, float]:
    """Wall and CPU seconds of one `etl drain`, what it says at its end, and its peak memory in MB."""
    environ = {
        **os.environ,
        "ETL_DATA_DIR": str(scratch / "data"),
        "ETL_PIPELINES": "bench_small",
        "PYTHONPATH": f"{scratch}{os.pathsep}{ROOT}",
        "ETL_SETTLE_SECONDS": "0",
    }
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "etl_project.cli", "drain"]
    measured = (
        "import os,resource,subprocess,sys;c=subprocess.run(sys.argv[1:]).returncode;"
        "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024);sys.exit(c)"
    )
    done = subprocess.run(
        [sys.executable, "-c", measured, *command], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"etl drain exited {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    lines = done.stdout.splitlines()
    peak = float(next(line for line in lines if line.startswith("peak")).split()[1])
    told = next((line for line in lines if " runs, " in line), lines[0])
    return seconds, cpu_of(after) - cpu_of(before), told, peak


def cpu_of(usage: resource.struct_rusage) -> float:
    """User and system seconds."""
    return usage.ru_utime + usage.ru_stime


def rows_of(scratch: Path) -> int:
    """How many rows the table has."""
    import duckdb

    with duckdb.connect(str(scratch / "data" / "warehouse.duckdb"), read_only=True) as connection:
        return int(connection.execute("SELECT count(*) FROM small").fetchone()[0])  # type: ignore[index]


if __name__ == "__main__":
    main()
