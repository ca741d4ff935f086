"""One writer with one empty folder: what can be asked of it, whatever the tool. The questions are elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

BEFORE, DAY, AFTER = "2025-01-02", "2025-01-03", "2025-01-04"
Rows = Counter[str]
TIMEOUT_SECONDS = 3600


class Took(NamedTuple):
    """What a piece of work took: the clock's seconds, and the processor's of the process with its children."""

    seconds: float
    processor_seconds: float


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
        return bool(self._took("write", day, file, **environment))

    def each(self, days: list[tuple[str, Path]]) -> list[Took]:
        """What each of these days took to replace, one after another in one process, without its imports."""
        listed = self.folder / "list"
        listed.write_text("".join(f"{day} {file}\n" for day, file in days))
        took = self._took("each", listed)
        assert len(took) == len(days), f"{self.writer.name} cannot write day {len(took) + 1} of {len(days)}"
        return took

    def whole(self, first: str, last: str, file: Path) -> Took:
        """What it took to write all days at once, the imports of the first write included."""
        took = self._took("whole", first, last, file)
        assert took, f"{self.writer.name} cannot write all days at once"
        return took[-1]

    def load(self, day: str) -> Took:
        """What the day took to become a pandas frame, without imports."""
        took = self._took("load", day)
        assert took, f"{self.writer.name} cannot load a day"
        return took[-1]

    def _took(self, *words: str | Path, **environment: str) -> list[Took]:
        process = self.start(*words, **environment)
        out, _ = process.communicate("\n", timeout=TIMEOUT_SECONDS)
        said = [line.split()[1:] for line in out.splitlines() if line.startswith("done ")]
        return [Took(*map(float, figures)) for figures in said] if process.returncode == 0 else []

    def days(self) -> dict[str, Rows]:
        """What is stored: of each day its rows."""
        out, _ = (process := self.start("read")).communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, f"{self.writer.name} cannot read its own table"
        found: dict[str, Rows] = {}
        for row in map(json.loads, filter(lambda line: line.startswith("{"), out.splitlines())):
            day = str(row["batch_date"])[:10]
            found.setdefault(day, Counter())[_plain(row)] += 1
        return found

    def tally(self) -> dict[str, list[int]]:
        """Of each stored day its rows and the sum of their amounts: cheaper than the rows where there are many."""
        out, _ = (process := self.start("tally")).communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, f"{self.writer.name} cannot read its own table"
        found: dict[str, list[int]] = json.loads(out.strip().splitlines()[-1])
        return found

    def constrain(self) -> str:
        """Whether rows without an amount are refused from now on."""
        out, _ = self.start("constrain").communicate(timeout=TIMEOUT_SECONDS)
        return out.strip().splitlines()[-1] if out.strip() else "cannot be asked"

    def comment(self, *text: str) -> str:
        """The comment of the table, after putting it there where one is given."""
        out, _ = self.start("comment", *text).communicate(timeout=TIMEOUT_SECONDS)
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
