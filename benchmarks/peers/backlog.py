"""A year of daily files that nobody has loaded yet: to a typed table and an aggregate of it, then one file corrected.

Us and what others use, beside one DuckDB script that does the same SQL (the floor; it keeps nothing safe). Each is a
whole process, imports included: what a person waits for. The second process is the one after a correction of one day's
file, told the day where the tool wants to be told; ours finds it. A tool that ends with other numbers than the script
is named instead of timed. This project's own process does more than asked: it judges each row before any counts, keeps
the files, compares the days and records all of it in Dagster.

    python benchmarks/peers/backlog.py [--only NAME ...] [--days 305] [--kilobytes 130] [--rounds 1]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environments import WRITERS, python_of, version_of
from trial import Took

sys.path.insert(0, str(Path(__file__).parent.parent))
from drain import made_files

FLOOR = "script"
LOADERS = WRITERS.parent / "backlog_writers"
ENVIRONMENT = {
    "script": "by_hand",
    "ours": "ours_table",
    "stock_range": "stock_io_manager",
    "stock_daily": "stock_io_manager",
    "dlt_files": "dlt_merge",
    "dbt_models": "dbt_microbatch",
    "sqlmesh_models": "sqlmesh_range",
}
"""Each loader, and whose environment it works in."""
_TIMEOUT_SECONDS = 1800


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=ENVIRONMENT, default=list(ENVIRONMENT))
    parser.add_argument("--days", type=int, default=305)
    parser.add_argument("--kilobytes", type=int, default=130, help="size of each file")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    names = [name for name in ENVIRONMENT if name in {*options.only, FLOOR}]
    for name in names:
        print(f"{name}: {version_of(ENVIRONMENT[name], python_of(ENVIRONMENT[name]))}")
    print(
        f"\n| {options.days} files of {options.kilobytes} kB | all: s | CPU s | of floor | one corrected: s | CPU s |"
    )
    print("|---|---|---|---|---|---|")
    floor: Took | None = None
    wanted: list[object] = []
    for name in names:
        rounds = [_trial(name, options.days, options.kilobytes * 1000) for _ in range(options.rounds)]
        told = rounds[0][0]
        if name == FLOOR:
            wanted = told
        if told != wanted:
            print(f"| {name} | ends with {told} for {wanted} | | | | |", flush=True)
            continue
        first, second = (Took(*map(statistics.median, zip(*(one[n] for one in rounds), strict=True))) for n in (1, 2))
        floor = floor or first
        ratio = first.processor_seconds / floor.processor_seconds
        print(
            f"| {name} | {first.seconds:.1f} | {first.processor_seconds:.1f} | {ratio:.1f} | "
            f"{second.seconds:.1f} | {second.processor_seconds:.1f} |",
            flush=True,
        )


def _trial(name: str, days: int, size_bytes: int) -> tuple[list[object], Took, Took]:
    """What the tables held after each of both processes, and what the processes took."""
    with tempfile.TemporaryDirectory(prefix="backlog-") as made:
        folder = Path(made)
        files = sorted(made_files(folder / "files", days, size_bytes).glob("*.csv"))
        first, told = _process(name, folder, "all", files[0].stem, files[-1].stem)
        corrected = files[len(files) // 2]
        header, *lines = corrected.read_text().splitlines(keepends=True)
        corrected.write_text("".join([header, *lines[: len(lines) * 9 // 10]]))
        second, told_again = _process(name, folder, "one", corrected.stem, corrected.stem)
        return [told, told_again], first, second


def _process(name: str, folder: Path, *words: str) -> tuple[Took, object]:
    """What the loader's process took, and what its tables hold then."""
    used, start = _processor(), time.perf_counter()
    out = _output(name, name, str(folder), *words)
    took = Took(time.perf_counter() - start, _processor() - used)
    return took, json.loads(_output("tables", name, *json.loads(out)))


def _output(script: str, environment_of: str, *words: str) -> str:
    """The last line that a script of the loaders prints."""
    command = [python_of(ENVIRONMENT[environment_of]), str(LOADERS / f"{script}.py"), *words]
    environ = {**os.environ, "TZ": "UTC", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, env=environ, check=False)
    assert done.returncode == 0, f"{script} {words}: {done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    return done.stdout.strip().splitlines()[-1]


def _processor() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main()
