"""`dagster dev` in operation: seconds from a file to its report, and the CPU of each process while nothing happens.

Starts the project on a data folder of its own, drops three files one after the other, waits for the report of each day,
then reads what the kernel has counted for every process over a minute. The floor of the first is the same file by
`etl drain`, of the second nothing. Run as `python benchmarks/at_rest.py [--seconds 60]`.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
FIRST = date(2025, 3, 3)
PATIENCE_SECONDS = 600


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch)
        drop(data, FIRST)
        began = time.monotonic()
        started("drain", data).wait()
        drained = time.monotonic() - began
        with (data / "dev.log").open("wb") as log:
            dev = started("dev", data, log)
            try:
                report(data, dev.pid, asked.seconds, drained)
            finally:
                os.killpg(dev.pid, signal.SIGINT)
                dev.wait()


def report(data: Path, pid: int, seconds: float, drained: float) -> None:
    """The two measurements of a running `dagster dev`."""
    took = []
    for number in range(1, 5):
        began = time.monotonic()
        drop(data, FIRST + timedelta(days=number))
        while str(FIRST + timedelta(days=number)) not in reports(data):
            if time.monotonic() - began > PATIENCE_SECONDS:
                sys.exit("no report came")
            time.sleep(0.1)
        took.append(time.monotonic() - began)
    print(f"file to report, dagster dev     {', '.join(f'{one:.1f}' for one in took[1:])} s   (after the first)")
    print(f"file to report, etl drain       {drained:.1f} s   (a process from its start to its end)")
    time.sleep(30)
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    before = {one: cpu(one) for one in processes}
    time.sleep(seconds)
    shares = {one: 100 * (cpu(one) - before[one]) / seconds for one in processes if one.is_running()}
    for one, share in shares.items():
        print(f"at rest {share:5.2f} % of a core   {' '.join(one.cmdline()[2:5])[:60]}")
    machine = f"{os.cpu_count()} cpus, load {os.getloadavg()[0]:.1f}"
    print(f"at rest {sum(shares.values()):5.2f} % of a core   together; {machine}")


def started(command: str, data: Path, log: object = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """A process of the project on this data folder, in a group of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    module = ["dagster", "dev", "--port", port] if command == "dev" else ["etl_project.cli", command]
    environ = {**os.environ, "ETL_DATA_DIR": str(data), "ETL_START_DATE": "2025-03-01"}
    return subprocess.Popen(
        [sys.executable, "-m", *module],
        cwd=ROOT,
        env=environ,
        stdout=log,  # type: ignore[call-overload]
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def drop(data: Path, day: date) -> None:
    """A small file of this day, complete the moment it appears."""
    folder = data / "incoming" / "orders"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{n},85123A,LANTERN,{n},{day} 09:{n:02d}:00,2.55,17850.0,United Kingdom" for n in range(1, 50)]
    aside = folder / ".orders.tmp"
    aside.write_text("\n".join([HEADER, *lines]) + "\n")
    aside.rename(folder / f"orders-{day}.csv")


def reports(data: Path) -> set[str]:
    """The days whose report Dagster knows of; looking here is in nobody's way."""
    index = data / "dagster/storage/history/runs/index.db"
    query = "SELECT partition FROM event_logs WHERE asset_key = ? AND dagster_event_type = 'ASSET_MATERIALIZATION'"
    try:
        with closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as opened:
            return {day for (day,) in opened.execute(query, ('["daily_report"]',))}
    except sqlite3.OperationalError:
        return set()


def cpu(process: psutil.Process) -> float:
    """Its seconds of CPU so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
