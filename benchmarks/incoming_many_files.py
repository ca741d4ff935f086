"""100,000 small files in one drop folder: the first scan, a scan with nothing new, memory.

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
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from etl_project.incoming import scan
from etl_project.incoming.spec import Column, SourceSpec

SPEC = SourceSpec(
    name="many",
    patterns=("*{date}*.csv", "*{date}*.csv.gz"),
    columns={"id": "id"},
    types=(Column("id", "INTEGER"),),
    start_date=date(2010, 1, 1),
)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "many")
        folder.mkdir()
        for number in range(count):
            day = date(2012, 1, 1) + timedelta(days=number % 3000)
            Path(folder, f"shop{number // 3000:03d}-{day}.csv").write_bytes(b"id\n1\n")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        now = datetime.now(UTC) + timedelta(seconds=10)
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            found = scan.scan(folder, SPEC, now)
            seconds.append(round(time.perf_counter() - start, 3))
        assert len(found.waiting) == count
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = {
            "benchmark": "incoming_many_files",
            "files": count,
            "first_scan_seconds": seconds[0],
            "next_scans_seconds": seconds[1:],
            "peak_memory_mb": round(memory / 1024),
            "memory_added_mb": round((memory - before) / 1024),
            "cpus": os.cpu_count(),
            "machine": platform.machine(),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
