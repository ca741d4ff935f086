"""The questions: each does something to a table of three days and says what became of it.

Every answer is "right" or what was found instead. Days are compared as whole sets of rows, with everything they hold.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

BEFORE, DAY, AFTER = "2025-01-02", "2025-01-03", "2025-01-04"
Rows = Counter[str]
_TIMEOUT = 300
_MANY = 500_000


@dataclass(frozen=True)
class Trial:
    """One writer with one empty folder. `kills` and `rounds`: how often what depends on the moment is tried."""

    python: str
    writer: Path
    folder: Path
    kills: int
    rounds: int

    @property
    def target(self) -> Path:
        """Where the writer keeps its table."""
        return self.folder / "target"

    def file(self, name: str, query: str) -> Path:
        """A Parquet file with the rows of this query."""
        file = self.folder / f"{name}.parquet"
        with duckdb.connect() as db:
            db.execute("SET TimeZone = 'UTC'")
            db.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet)")
        return file

    def start(self, *words: str | Path, **environment: str) -> subprocess.Popen[str]:
        """The writer at work on one command."""
        return subprocess.Popen(
            [self.python, str(self.writer), str(self.target), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=self.writer.parent,
            env={**os.environ, **environment},
            start_new_session=True,
        )

    def write(self, day: str, file: Path, **environment: str) -> bool:
        """Whether the writer says that it replaced the day."""
        return self.seconds(day, file, **environment) is not None

    def seconds(self, day: str, file: Path, **environment: str) -> float | None:
        """How long the write itself took, without imports; None when the writer says that it failed."""
        process = self.start("write", day, file, **environment)
        out, _ = process.communicate("\n", timeout=_TIMEOUT)
        said = [line.split()[1] for line in out.splitlines() if line.startswith("done ")]
        return float(said[-1]) if process.returncode == 0 and said else None

    def days(self) -> dict[str, Rows]:
        """What is stored: of each day its rows."""
        out, _ = (process := self.start("read")).communicate(timeout=_TIMEOUT)
        assert process.returncode == 0, f"{self.writer.name} cannot read its own table"
        found: dict[str, Rows] = {}
        for row in map(json.loads, filter(lambda line: line.startswith("{"), out.splitlines())):
            day = str(row["batch_date"])[:10]
            found.setdefault(day, Counter())[_plain(row)] += 1
        return found

    def tally(self) -> dict[str, list[int]]:
        """Of each stored day its rows and the sum of their amounts: cheaper than the rows where there are many."""
        out, _ = (process := self.start("tally")).communicate(timeout=_TIMEOUT)
        assert process.returncode == 0, f"{self.writer.name} cannot read its own table"
        found: dict[str, list[int]] = json.loads(out.strip().splitlines()[-1])
        return found

    def comment(self, *text: str) -> str:
        """The comment of the table, after putting it there where one is given."""
        out, _ = self.start("comment", *text).communicate(timeout=_TIMEOUT)
        return out.strip().splitlines()[-1] if out.strip() else ""

    def fill(self) -> None:
        """Three days of 1,000 rows."""
        for day in (BEFORE, DAY, AFTER):
            assert self.write(day, self.file(day, rows(day))), f"{self.writer.name} cannot write a day"


def rows(day: str, start: int = 0, count: int = 1000, factor: int = 7) -> str:
    """The query of a day's rows: `factor` tells versions of a day apart."""
    return (
        f"SELECT DATE '{day}' AS batch_date, i AS id, i * {factor} AS amount, "
        f"TIMESTAMPTZ '{day} 00:00:00+00' + INTERVAL (i % 86400) SECOND AS sold_at "
        f"FROM range({start}, {start + count}) numbers(i)"
    )


def _plain(row: dict[str, Any]) -> str:
    row["sold_at"] = str(row.get("sold_at"))[:19]
    row["batch_date"] = str(row["batch_date"])[:10]
    return json.dumps({name: value for name, value in row.items() if value is not None}, sort_keys=True)


def _differs(found: dict[str, Rows], wanted: dict[str, Rows]) -> str:
    """What is not as it should be, in a few words; empty where all is."""
    said = []
    for day in sorted({*found, *wanted}):
        have, want = found.get(day, Counter()), wanted.get(day, Counter())
        if have != want:
            missing, extra = (want - have).total(), (have - want).total()
            said.append(f"{day[5:]}: {missing} rows missing, {extra} that should not be there")
    return "; ".join(said)


def second_run(trial: Trial) -> str:
    trial.fill()
    before = trial.days()
    trial.write(DAY, trial.folder / f"{DAY}.parquet")
    return _differs(trial.days(), before) or "right"


def corrected_day(trial: Trial) -> str:
    trial.fill()
    before = trial.days()
    trial.write(DAY, trial.file("corrected", rows(DAY, factor=9, count=900)))
    found = trial.days()
    if found.get(DAY, Counter()).total() != 900 or found.get(DAY) == before[DAY]:
        return f"the day has {found.get(DAY, Counter()).total()} rows for 900"
    return _differs({**found, DAY: before[DAY]}, before) or "right"


def empty_day(trial: Trial) -> str:
    trial.fill()
    before = trial.days()
    said = trial.write(DAY, trial.file("empty", rows(DAY, count=0)))
    wrong = _differs(trial.days(), {BEFORE: before[BEFORE], AFTER: before[AFTER]})
    return f"{wrong}, {'and it said success' if said else 'with an error'}" if wrong else "right"


def foreign_rows(trial: Trial) -> str:
    """Ten rows of the day before, which is stored already, come with the day."""
    trial.fill()
    before = trial.days()
    mixed = f"{rows(DAY)} UNION ALL {rows(BEFORE, count=10)}"
    said = trial.write(DAY, trial.file("mixed", mixed))
    wrong = _differs(trial.days(), before)
    if wrong:
        return f"{wrong}, {'and it said success' if said else 'with an error'}"
    return "the ten rows are left out without a word" if said else "right"


def reordered(trial: Trial) -> str:
    trial.fill()
    before = trial.days()
    trial.write(DAY, trial.file("reordered", f"SELECT sold_at, amount, id, batch_date FROM ({rows(DAY)})"))
    return _differs(trial.days(), before) or "right"


def new_column(trial: Trial) -> str:
    """A column that the table does not have: stored, or refused with the day as it was."""
    trial.fill()
    before = trial.days()
    said = trial.write(DAY, trial.file("wider", f"SELECT *, 'x' AS note FROM ({rows(DAY)})"))
    found = trial.days()
    if not said:
        return _differs(found, before) or "right (refused)"
    if any('"note"' in row for row in found.get(DAY, Counter())):
        return _differs({**found, DAY: before[DAY]}, before) or "right (stored)"
    return "the column is left out, and it said success"


def other_zone(trial: Trial) -> str:
    trial.fill()
    before = trial.days()
    trial.write(DAY, trial.folder / f"{DAY}.parquet", TZ="Asia/Shanghai")
    trial.write(DAY, trial.folder / f"{DAY}.parquet", TZ="America/New_York")
    return _differs(trial.days(), before) or "right"


def comment_survives(trial: Trial) -> str:
    trial.fill()
    if trial.comment("kept for auditors") != "kept for auditors":
        return "has no comments"
    trial.write(DAY, trial.file("corrected", rows(DAY, factor=9)))
    return "right" if trial.comment() == "kept for auditors" else "the comment is gone"


def two_writers(trial: Trial) -> str:
    """Two processes replace one day that is empty so far, at the same moment, with different rows."""
    assert trial.write(BEFORE, trial.file(BEFORE, rows(BEFORE)))
    wrong: Counter[str] = Counter()
    for number in range(trial.rounds):
        day = f"2025-02-{number + 1:02}"
        files = [trial.file(f"{day}-{i}", rows(day, start=i * 10_000)) for i in range(2)]
        processes = [trial.start("write", day, file) for file in files]
        for process in processes:
            assert process.stdout is not None and process.stdin is not None
            process.stdout.readline()
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            process.communicate(timeout=_TIMEOUT)
        found = trial.days().get(day, Counter()).total()
        done = sum(process.returncode == 0 for process in processes)
        if found == 2000:
            wrong["the rows of both, twice the day"] += 1
        elif found != 1000:
            wrong[f"{found} rows for 1000, {done} said success"] += 1
    return "; ".join(f"{count} of {trial.rounds}: {what}" for what, count in wrong.items()) or "right"


def killed(trial: Trial) -> str:
    """SIGKILL at random moments of replacing a day of half a million rows; then the next run.

    Not from the very start on: what the first moments do is to open the table, which can leave nothing half done.
    """
    trial.fill()
    old, new = (trial.file(f"large-{factor}", rows(DAY, count=_MANY, factor=factor)) for factor in (2, 3))
    whole = {}
    for file in (old, new):
        assert trial.write(DAY, file)
        whole[file] = trial.tally()
    seconds = trial.seconds(DAY, old)
    assert seconds is not None
    moments = random.Random(7)
    wrong: Counter[str] = Counter()
    for number in range(trial.kills):
        file = (new, old)[number % 2]
        _kill_after(trial.start("write", DAY, file), moments.uniform(0.3, 1.1) * seconds)
        found = trial.tally()
        if found not in whole.values():
            wrong[f"neither the old day nor the new one ({found.get(DAY, [0])[0]:,} rows for {_MANY:,})"] += 1
        if not trial.write(DAY, file):
            wrong["the next run fails"] += 1
        elif trial.tally() != whole[file]:
            wrong["the next run does not put it right"] += 1
    return "; ".join(f"{count} of {trial.kills}: {what}" for what, count in wrong.items()) or "right"


def _kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    assert process.stdout is not None and process.stdin is not None
    process.stdout.readline()
    process.stdin.write("\n")
    process.stdin.flush()
    time.sleep(seconds)
    os.killpg(process.pid, 9)
    process.communicate()


QUESTIONS: dict[str, Callable[[Trial], str]] = {
    "second run": second_run,
    "corrected day": corrected_day,
    "day that is empty now": empty_day,
    "rows of another day": foreign_rows,
    "columns in another order": reordered,
    "a new column": new_column,
    "another time zone": other_zone,
    "comment of the table": comment_survives,
    "two writers of an empty day": two_writers,
    "kill -9 in the write": killed,
}
