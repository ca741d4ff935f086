"""How long a day of a table takes to replace and to load, and what many days and many rewrites do to that.

Us and what others use, beside DELETE and INSERT in DuckDB. The writers are those of `correct.py`; the floor is
`by_hand`, which is DuckDB alone and wrong after a kill. All writers take turns, so that a busy moment of the machine
meets all of them; ratios are of processor time, which other work on the machine changes least. A process has imported
everything and written once before the clock starts. Rows have 8 bytes of date, two integers and a time.

    python benchmarks/peers/fast.py [one_day growth rewrites] [--only WRITER ...] [--without WRITER ...]
        [--rows 10000 1000000] [--days 10 300] [--rewrites 300] [--rounds 5]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from pathlib import Path

from environments import PEERS, WRITERS, python_of, version_of
from trial import AFTER, BEFORE, DAY, Took, Trial, rows

FLOOR = "by_hand"
_SMALL = 1_000
Trials = dict[str, Trial]


def one_day(trials: Trials, options: argparse.Namespace) -> None:
    """A day beside two others is replaced by a corrected one, and loaded as pandas."""
    for count in options.rows:
        writes: dict[str, list[Took]] = {name: [] for name in trials}
        loads: dict[str, list[Took]] = {name: [] for name in trials}
        for trial in trials.values():
            _fresh(trial)
            trial.each([(day, trial.file(day, rows(day, count=count))) for day in (BEFORE, DAY, AFTER)])
        for number in range(options.rounds):
            for name, trial in trials.items():
                writes[name] += trial.each([(DAY, trial.file("new", rows(DAY, count=count, factor=number + 2)))])
                loads[name].append(trial.load(DAY))
        _show(f"a day of {count:,} rows replaced", writes)
        _show(f"a day of {count:,} rows loaded as pandas", loads)


def growth(trials: Trials, options: argparse.Namespace) -> None:
    """Two days are corrected and put back, beside so many others that were stored at once before."""
    for count in options.days:
        first = (date.fromisoformat(BEFORE) - timedelta(days=count - 1)).isoformat()
        took: dict[str, list[Took]] = {name: [] for name in trials}
        files: dict[str, list[tuple[str, Path]]] = {}
        for name, trial in trials.items():
            _fresh(trial)
            files[name] = [
                (day, trial.file(f"{day}-{factor}", rows(day, count=_SMALL, factor=factor)))
                for factor in (7, 9)
                for day in (DAY, AFTER)
            ]
            trial.each(files[name])
            trial.whole(first, BEFORE, trial.file("others", _days(first, count)))
        for _ in range(options.rounds):
            for name, trial in trials.items():
                took[name] += trial.each(files[name])
        _show(f"a day of {_SMALL:,} rows replaced beside {count:,} others", took)


def _days(first: str, count: int) -> str:
    """The query of the rows of so many days."""
    moved = "batch_date + CAST(n AS INTEGER) AS batch_date, sold_at + to_days(CAST(n AS INTEGER)) AS sold_at"
    days = f"({rows(first, count=_SMALL)}), range({count}) days(n)"
    return f"SELECT * EXCLUDE (n) REPLACE ({moved}) FROM {days} ORDER BY batch_date, id"


def rewrites(trials: Trials, options: argparse.Namespace) -> None:
    """One day is replaced again and again; the last ten writes count, and the size of all that is left."""
    took, sizes = {}, {}
    for name, trial in trials.items():
        _fresh(trial)
        files = [trial.file(f"v{factor}", rows(DAY, count=_SMALL * 10, factor=factor)) for factor in (2, 3)]
        trial.each([(DAY, files[0])])
        once = _size(trial)
        took[name] = trial.each([(DAY, files[number % 2]) for number in range(options.rewrites)])[-10:]
        sizes[name] = _size(trial) / once
    _show(f"a day of {_SMALL * 10:,} rows replaced after {options.rewrites:,} rewrites", took)
    print("\nsize after all rewrites, as a multiple of one write: ", end="")
    print(", ".join(f"{name} {ratio:.1f}" for name, ratio in sizes.items()))


def _fresh(trial: Trial) -> Trial:
    """The writer, with nothing in its folder any more."""
    shutil.rmtree(trial.folder, ignore_errors=True)
    trial.folder.mkdir()
    return trial


def _size(trial: Trial) -> int:
    return sum(file.stat().st_size for file in trial.target.rglob("*") if file.is_file())


def _show(work: str, took: dict[str, list[Took]]) -> None:
    medians = {name: Took(*map(statistics.median, zip(*found, strict=True))) for name, found in took.items()}
    print(f"\n{work}: median of {len(took[FLOOR])}\n| | s | CPU s | CPU, as a multiple of {FLOOR} |\n|---|---|---|---|")
    for name, (seconds, processor) in medians.items():
        ratio = processor / medians[FLOOR].processor_seconds
        print(f"| {name} | {seconds:.3f} | {processor:.3f} | {ratio:.1f} |", flush=True)


WORK: dict[str, Callable[[Trials, argparse.Namespace], None]] = {
    "one_day": one_day,
    "growth": growth,
    "rewrites": rewrites,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="*", choices=[*WORK, []], default=list(WORK))
    parser.add_argument("--only", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--without", nargs="*", choices=PEERS, default=[])
    parser.add_argument("--rows", nargs="*", type=int, default=[10_000, 1_000_000])
    parser.add_argument("--days", nargs="*", type=int, default=[10, 300])
    parser.add_argument("--rewrites", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    names = _in_order({*options.only, FLOOR} - {*options.without})
    print(*(f"{name}: {version_of(name, python_of(name))}" for name in names), sep="\n")
    for work in options.work:
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            trials = {n: Trial(python_of(n), WRITERS / f"{n}.py", Path(folder) / n, 0, 0) for n in names}
            WORK[work](trials, options)


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=list(PEERS).index)


if __name__ == "__main__":
    main()
