"""The questions: each does something to a table of three days and says what became of it.

Every answer is "right" or what was found instead. Days are compared as whole sets of rows, with everything they hold.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable

from trial import AFTER, BEFORE, DAY, TIMEOUT_SECONDS, Rows, Trial, rows

_MANY = 500_000


def _differs(found: dict[str, Rows], wanted: dict[str, Rows]) -> str:
    """What is not as it should be, in a few words; empty where all is."""
    said = []
    for day in sorted({*found, *wanted}):
        have, want = found.get(day, Counter()), wanted.get(day, Counter())
        if have != want:
            missing, extra = (want - have).total(), (have - want).total()
            said.append(f"{day[5:]}: {missing} rows missing, {extra} that should not be there")
    return "; ".join(said)


def _unchanged(trial: Trial, before: dict[str, Rows], said: bool) -> str:
    """What a write changed that should have changed nothing, and what it said; empty where nothing changed."""
    wrong = _differs(trial.days(), before)
    return f"{wrong}, {'and it said success' if said else 'with an error'}" if wrong else ""


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
    return _unchanged(trial, before, said) or ("the ten rows are left out without a word" if said else "right")


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


def constraint_holds(trial: Trial) -> str:
    """Rows without an amount are refused from some moment on; a rerun changes nothing in that."""
    trial.fill()
    if (asked := trial.constrain()) != "there":
        return asked
    trial.write(DAY, trial.file("corrected", rows(DAY, factor=9)))
    before = trial.days()
    hollow = f"SELECT * REPLACE (CASE WHEN id > 9 THEN amount END AS amount) FROM ({rows(DAY)})"
    said = trial.write(DAY, trial.file("hollow", hollow))
    return _unchanged(trial, before, said) or ("says success and changes nothing" if said else "right")


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
            process.communicate(timeout=TIMEOUT_SECONDS)
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
    seconds = trial.each([(DAY, old)])[0].seconds
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
    "NOT NULL of a column": constraint_holds,
    "two writers of an empty day": two_writers,
    "kill -9 in the write": killed,
}
