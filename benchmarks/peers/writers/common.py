"""What every writer answers to, so that one harness can put the same questions to all of them.

    python WRITER FOLDER write DAY INPUT.parquet    replace a day; waits for a line on standard input before it begins
    python WRITER FOLDER read                       every stored row as JSON, one a line
    python WRITER FOLDER tally                      of each stored day its rows and the sum of their amounts, as JSON
    python WRITER FOLDER comment [TEXT]             put a comment on the table, or show it

`ready` is printed once everything is imported, `done SECONDS` when the day is written. Some libraries import others
when they first write: so the same day is written to a folder that is thrown away, before `ready`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def answer(
    write: Callable[[Path, str, Path], None],
    read: Callable[[Path], Iterable[dict[str, Any]]],
    comment: Callable[[Path, str | None], str | None],
) -> None:
    folder, command, *rest = Path(sys.argv[1]), *sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    if command == "write":
        with TemporaryDirectory() as elsewhere:
            write(Path(elsewhere), rest[0], Path(rest[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        start = time.perf_counter()
        write(folder, rest[0], Path(rest[1]))
        print(f"done {time.perf_counter() - start:.4f}", flush=True)
    elif command == "read":
        for row in read(folder):
            print(json.dumps(row, default=str, sort_keys=True))
    elif command == "tally":
        days: dict[str, list[int]] = {}
        for row in read(folder):
            day = days.setdefault(str(row["batch_date"])[:10], [0, 0])
            day[0] += 1
            day[1] += row["amount"]
        print(json.dumps(days, sort_keys=True))
    else:
        print(comment(folder, rest[0] if rest else None) or "")


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


def comment_in_duckdb(file: Path, table: str, text: str | None) -> str | None:
    """The comment of a table of a DuckDB file."""
    import duckdb

    with duckdb.connect(str(file)) as db:
        if text is not None:
            db.execute(f"COMMENT ON TABLE {table} IS '{text}'")
        name = table.rpartition(".")[2]
        found = db.execute("SELECT comment FROM duckdb_tables() WHERE table_name = ?", [name]).fetchone()
        return found[0] if found else None
