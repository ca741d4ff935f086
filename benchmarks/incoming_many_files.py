"""100,000 small files in one drop folder: the first scan, a scan with nothing new, memory, beside the bare floor.

The floor is `os.scandir` and one stat a file, which nothing can do without that must notice a file rewritten in place:
such a change shows in the file's own inode only, not in its folder. Wall and CPU seconds, in the same run.

Run as `python benchmarks/incoming_many_files.py [number of files]`; the result is printed and is a line of JSON.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from etl_project.sources.intake import scan
from etl_project.sources.spec import SourceColumn, SourceSpec

SPEC = SourceSpec(
    name="many",
    patterns=("*{date}*.csv", "*{date}*.csv.gz"),
    columns={"id": "id"},
    types=(SourceColumn("id", "INTEGER"),),
    start_date=date(2010, 1, 1),
)


def fill(folder: Path, count: int) -> None:
    """So many files of one row, of 3,000 days."""
    for number in range(count):
        day = date(2012, 1, 1) + timedelta(days=number % 3000)
        Path(folder, f"shop{number // 3000:03d}-{day}.csv").write_bytes(b"id\n1\n")


def floor(folder: Path) -> int:
    """The least that has to be done: list, and look at every file."""
    with os.scandir(folder) as entries:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "many")
        folder.mkdir()
        fill(folder, count)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        now = datetime.now(UTC) + timedelta(seconds=10)
        floors, scans = [], []
        for _ in range(3):
            floors.append(timed(lambda: floor(folder)))
            scans.append(timed(lambda: scan.scan(folder, SPEC, now)))
        assert len(scan.scan(folder, SPEC, now).waiting) == count
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = {
            "benchmark": "incoming_many_files",
            "files": count,
            "first_scan_seconds": round(scans[0][0], 3),
            "next_scans_seconds": [round(wall, 3) for wall, _ in scans[1:]],
            "floor_seconds": [round(wall, 3) for wall, _ in floors],
            "cpu_seconds": round(min(cpu for _, cpu in scans), 3),
            "floor_cpu_seconds": round(min(cpu for _, cpu in floors), 3),
            "peak_memory_mb": round(memory / 1024),
            "memory_added_mb": round((memory - before) / 1024),
            "cpus": os.cpu_count(),
            "machine": platform.machine(),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
