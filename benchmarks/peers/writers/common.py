"""What every writer answers to, so that one harness can put the same questions to all of them.

    python WRITER FOLDER write DAY INPUT.parquet    replace a day; waits for a line on standard input before it begins
    python WRITER FOLDER each LIST                  replace one day after another in one process: `DAY INPUT` a line
    python WRITER FOLDER whole FIRST LAST INPUT     all days from the first to the last at once
    python WRITER FOLDER load DAY                   the day as a pandas frame
    python WRITER FOLDER read                       every stored row as JSON, one a line
    python WRITER FOLDER tally                      of each stored day its rows and the sum of their amounts, as JSON
    python WRITER FOLDER comment [TEXT]             put a comment on the table, or show it
    python WRITER FOLDER constrain                  refuse rows without an amount from now on, where the tool can

`ready` is printed once everything is imported, `done SECONDS CPU` when a day is written or loaded: the clock's seconds,
and the processor's of the process with its children. Some libraries import others when they first write: so the same
day is written to a folder that is thrown away, before `ready`. For the same reason a day is loaded twice, and the
second time counts.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sized
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def answer(
    write: Callable[[Path, str, Path], None],
    read: Callable[[Path], Iterable[dict[str, Any]]],
    comment: Callable[[Path, str | None], str | None],
    load: Callable[[Path, str], Sized],
    whole: Callable[[Path, str, str, Path], None],
    constrain: Callable[[Path], None] | None = None,
) -> None:
    folder, command, *rest = Path(sys.argv[1]), *sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    commands: dict[str, Callable[[], None]] = {
        "write": lambda: _write(write, folder, [(rest[0], Path(rest[1]))]),
        "each": lambda: _write(write, folder, _listed(Path(rest[0]))),
        "whole": lambda: print(_timed(lambda: whole(folder, rest[0], rest[1], Path(rest[2])))),
        "load": lambda: _load(load, folder, rest[0]),
        "read": lambda: print(*(json.dumps(row, default=str, sort_keys=True) for row in read(folder)), sep="\n"),
        "tally": lambda: _tally(read(folder)),
        "comment": lambda: print(comment(folder, rest[0] if rest else None) or ""),
        "constrain": lambda: print("has none" if constrain is None else constrain(folder) or "there"),
    }
    commands[command]()


def _listed(file: Path) -> list[tuple[str, Path]]:
    lines = (line.split() for line in file.read_text().splitlines())
    return [(day, Path(name)) for day, name in lines]


def _load(load: Callable[[Path, str], Sized], folder: Path, day: str) -> None:
    load(folder, day)
    print(_timed(lambda: print(len(load(folder, day)), "rows")))


def _tally(rows: Iterable[dict[str, Any]]) -> None:
    days: dict[str, list[int]] = {}
    for row in rows:
        day = days.setdefault(str(row["batch_date"])[:10], [0, 0])
        day[0] += 1
        day[1] += row["amount"]
    print(json.dumps(days, sort_keys=True))


def _write(write: Callable[[Path, str, Path], None], folder: Path, days: list[tuple[str, Path]]) -> None:
    with TemporaryDirectory() as elsewhere:
        write(Path(elsewhere), *days[0])
    print("ready", flush=True)
    sys.stdin.readline()
    for day, file in days:
        print(_timed(lambda day=day, file=file: write(folder, day, file)), flush=True)  # type: ignore[misc]


def _timed(work: Callable[[], object]) -> str:
    start, used = time.perf_counter(), _processor()
    work()
    return f"done {time.perf_counter() - start:.4f} {_processor() - used:.4f}"


def _processor() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def from_duckdb(file: Path, table: str) -> Iterable[dict[str, Any]]:
    """The rows of a table of a DuckDB file, none where it was never made."""
    import duckdb

    if not file.exists():
        return []
    with duckdb.connect(str(file), read_only=True) as db:
        try:
            found = db.execute(f"SELECT * FROM {table} ORDER BY ALL")
        except duckdb.CatalogException:
            return []
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def frame_of_duckdb(file: Path, table: str, day: str) -> Sized:
    """One day of a table of a DuckDB file, as DuckDB gives it to pandas."""
    import duckdb

    with duckdb.connect(str(file), read_only=True) as db:
        return db.execute(f"SELECT * FROM {table} WHERE batch_date = CAST(? AS DATE)", [day]).fetchdf()


def not_null_in_duckdb(file: Path, table: str) -> None:
    """Refuse rows without an amount in a table of a DuckDB file."""
    import duckdb

    with duckdb.connect(str(file)) as db:
        db.execute(f"ALTER TABLE {table} ALTER COLUMN amount SET NOT NULL")


def comment_in_duckdb(file: Path, table: str, text: str | None) -> str | None:
    """The comment of a table of a DuckDB file."""
    import duckdb

    with duckdb.connect(str(file)) as db:
        if text is not None:
            db.execute(f"COMMENT ON TABLE {table} IS '{text}'")
        name = table.rpartition(".")[2]
        found = db.execute("SELECT comment FROM duckdb_tables() WHERE table_name = ?", [name]).fetchone()
        return found[0] if found else None
