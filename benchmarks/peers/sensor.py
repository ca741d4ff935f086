"""A drop folder of 1,000 and of 100,000 files: what a look at it costs, and which files it gets wrong.

Us (`scan`, with which every look begins) beside a sensor as Dagster's page on sensors has it: it lists the folder, asks
for a run for each file that is younger than its cursor, and keeps the time of the youngest as the cursor. Beside both
the least that has to be done: list, and stat every file. A first look finds all files new, a quiet one finds nothing
new. Two questions to each: is a file that a process is still writing left alone, and is a file seen that is moved in
with an older time than another one (as `mv`, `cp -p`, rsync and tar leave it)?

    python benchmarks/peers/sensor.py [--files 1000 100000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

sys.path.insert(0, str(Path(__file__).parent.parent))
from incoming_many_files import SPEC, fill, floor, timed

from etl_project.sources.intake import scan


class Stock:
    """The sensor of the documentation, with its cursor."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cursor = folder, ""

    def look(self) -> set[str]:
        """The names that it asks runs for."""
        context = dg.build_sensor_context(cursor=self.cursor)
        requests = list(self._requests(context))
        self.cursor = context.cursor or ""
        return {str(request.run_key).rpartition(":")[0] for request in requests}

    def _requests(self, context: dg.SensorEvaluationContext) -> list[dg.RunRequest]:
        last = newest = float(context.cursor) if context.cursor else 0.0
        found = []
        for name in os.listdir(self.folder):  # noqa: TID251  # as the page has it
            path = os.path.join(self.folder, name)
            if os.path.isfile(path) and (changed := os.stat(path).st_mtime) > last:
                config = {"ops": {"process_file": {"config": {"filename": name}}}}
                found.append(dg.RunRequest(run_key=f"{name}:{changed}", run_config=config))
                newest = max(newest, changed)
        context.update_cursor(str(newest))
        return found


class Ours:
    """The list of what waits; what was worked on leaves the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def look(self) -> set[str]:
        """The names that can be worked on."""
        now = datetime.now(UTC) + timedelta(seconds=10)  # all have been there for longer than they have to settle
        return {waiting.name for waiting in scan.scan(self.folder, SPEC, now).waiting}


def half_written(look: Callable[[], set[str]], folder: Path) -> str:
    """A process has the file open and has written the first of its rows."""
    file = folder / "shop999-2012-01-02.csv"
    with file.open("w") as writing:
        writing.write("id\n1\n")
        writing.flush()
        taken = file.name in look()
    return "**taken half written**" if taken else "left alone until it is closed"


def moved_in(look: Callable[[], set[str]], folder: Path) -> str:
    """A look sees one file; then one comes whose time is an hour older."""
    (folder / "shop001-2012-01-02.csv").write_text("id\n1\n")
    look()
    file = folder / "shop001-2012-01-03.csv"
    file.write_text("id\n1\n")
    earlier = file.stat().st_mtime - 3600
    os.utime(file, (earlier, earlier))
    return "seen" if file.name in look() else "**never seen**"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="*", type=int, default=[1_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"this checkout; a sensor by dagster {dg.__version__}")
    for kind in (Ours, Stock):
        for ask in (half_written, moved_in):
            with tempfile.TemporaryDirectory() as made:
                answer = ask(kind(Path(made)).look, Path(made))
            print(f"{kind.__name__.lower()}, {ask.__name__.replace('_', ' ')}: {answer}")
    for count in options.files:
        with tempfile.TemporaryDirectory() as made:
            fill(Path(made), count)
            _speed(Path(made), count, options.rounds)


def _speed(folder: Path, count: int, rounds: int) -> None:
    """The processor's milliseconds of each look: medians of rounds in turns, and as multiples of the least."""
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        ours, stock = Ours(folder), Stock(folder)
        works = {
            "list and stat": lambda: floor(folder),
            "ours, every look": ours.look,
            "sensor, first look": stock.look,
            "sensor, quiet look": stock.look,
        }
        for name, work in works.items():
            took.setdefault(name, []).append(timed(work)[1] * 1000)
    least = statistics.median(took["list and stat"])
    print(f"\n| {count:,} files | CPU ms | of list and stat |\n|---|---|---|")
    for name, figures in took.items():
        print(f"| {name} | {(middle := statistics.median(figures)):.0f} | {middle / least:.1f} |", flush=True)


if __name__ == "__main__":
    main()
