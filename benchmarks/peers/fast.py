"""How long one day of a table takes to replace: us and what others use, beside DELETE and INSERT in DuckDB.

The writers are those of `correct.py`. A day of so many rows (8 bytes of date, two integers, a time) is replaced by a
corrected one beside two other days; the floor is `by_hand`, which is DuckDB alone and wrong after a kill. The rounds
of all writers take turns, so that a busy moment of the machine meets all of them. A process has imported everything and
written once before the clock starts.

    python benchmarks/peers/fast.py [--only WRITER ...] [--rows 10000 1000000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from environments import PEERS, WRITERS, python_of, version_of
from questions import AFTER, BEFORE, DAY, Trial, rows

FLOOR = "by_hand"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rows", nargs="*", type=int, default=[10_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    names = sorted({*options.only, FLOOR}, key=list(PEERS).index)
    print(*(f"{name}: {version_of(name, python_of(name))}" for name in names), sep="\n")
    for count in options.rows:
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            seconds = _medians({name: Path(folder) / name for name in names}, count, options.rounds)
        print(f"\n{count:,} rows: median of {options.rounds} rounds in seconds, and as a multiple of {FLOOR}")
        for name in names:
            print(f"| {name} | {seconds[name]:.3f} | {seconds[name] / seconds[FLOOR]:.1f} |")


def _medians(folders: dict[str, Path], count: int, rounds: int) -> dict[str, float]:
    trials = {}
    for name, folder in folders.items():
        folder.mkdir()
        trials[name] = trial = Trial(python_of(name), WRITERS / f"{name}.py", folder, 0, 0)
        for day in (BEFORE, DAY, AFTER):
            assert trial.write(day, trial.file(day, rows(day, count=count))), f"{name} cannot write a day"
    took: dict[str, list[float]] = {name: [] for name in trials}
    for number in range(rounds):
        for name, trial in trials.items():
            corrected = trial.file("corrected", rows(DAY, count=count, factor=number + 2))
            seconds = trial.seconds(DAY, corrected)
            assert seconds is not None, f"{name} cannot replace a day"
            took[name].append(seconds)
    return {name: statistics.median(found) for name, found in took.items()}


if __name__ == "__main__":
    main()
