"""`dagster dev` in operation: seconds from a file to its report, and the CPU of each process while nothing happens.

Starts the project on a data folder of its own, drops files one after the other, waits for the report of each day and
says where the time went, then reads what the kernel has counted for every process over a minute. The floor of the first
is the same file by `etl drain`, of the second nothing. Run as `python benchmarks/at_rest.py [--drops 5 --seconds 60]`.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
FIRST = date(2025, 3, 3)
REPORT = '["daily_report"]'
PATIENCE_SECONDS = 600
STAGES = {
    "until it is asked for": "PIPELINE_ENQUEUED",
    "in the queue": "PIPELINE_STARTING",
    "a process with Dagster": "ENGINE_EVENT",
    "load the project": "PIPELINE_START",
    "until the report": "REPORT",
}
"""What a day waits for, and the event of its run that ends it."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drops", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Started with `&`, it is ignored, by all children too.
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch)
        drop(data, FIRST)
        began = time.monotonic()
        started("drain", data).wait()
        drained = time.monotonic() - began
        with (data / "dev.log").open("wb") as log:
            dev = started("dev", data, log)
            try:
                files(data, asked.drops, drained)
                at_rest(dev.pid, asked.seconds)
            finally:
                os.killpg(dev.pid, signal.SIGINT)
                dev.wait()


def files(data: Path, drops: int, drained: float) -> None:
    """Seconds from a file to its report, at moments that have nothing to do with Dagster's looks."""
    took: list[dict[str, float]] = []
    for number in range(drops + 1):
        day = str(FIRST + timedelta(days=number + 1))
        time.sleep(8 + 1.3 * number % 5)
        dropped = time.time()
        drop(data, date.fromisoformat(day))
        while day not in reports(data):
            if time.time() - dropped > PATIENCE_SECONDS:
                sys.exit("no report came")
            time.sleep(0.05)
        took.append(stages(data, day, dropped))
    took = took[1:]  # The first one waits for the start of everything.
    whole = [sum(one.values()) for one in took]
    print(f"file to report, dagster dev     {told(whole)}   ({', '.join(f'{one:.1f}' for one in whole)})")
    for stage in STAGES:
        print(f"    {stage:27} {told([one[stage] for one in took])}")
    print(f"file to report, etl drain       {drained:.1f} s   (a process from its start to its end)")


def told(seconds: list[float]) -> str:
    """Median and worst."""
    return f"{statistics.median(seconds):4.1f} s, at worst {max(seconds):.1f} s"


def stages(data: Path, day: str, dropped: float) -> dict[str, float]:
    """Seconds of each stage of the run that made the report of this day."""
    ended: dict[str, float] = {}
    for file in (data / "dagster/storage/history/runs").glob("*-*.db"):
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as opened:
            query = "SELECT dagster_event_type, asset_key, partition, timestamp FROM event_logs ORDER BY id"
            events = opened.execute(query).fetchall()
        if not any((asset, partition) == (REPORT, day) for _, asset, partition, _ in events):
            continue
        for kind, asset, partition, at in events:
            name = "REPORT" if (kind, asset, partition) == ("ASSET_MATERIALIZATION", REPORT, day) else kind
            ended.setdefault(name, datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp())
    at = [dropped, *(ended[event] for event in STAGES.values())]
    return {stage: after - before for stage, (before, after) in zip(STAGES, pairwise(at), strict=True)}


def at_rest(pid: int, seconds: float) -> None:
    """The CPU of every process of a running `dagster dev`."""
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
            return {day for (day,) in opened.execute(query, (REPORT,))}
    except sqlite3.OperationalError:
        return set()


def cpu(process: psutil.Process) -> float:
    """Its seconds of CPU so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
