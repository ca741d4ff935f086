"""What people write first: DELETE the day, then INSERT it."""

from __future__ import annotations

from pathlib import Path

import duckdb
from common import answer, comment_in_duckdb, frame_of_duckdb, from_duckdb, not_null_in_duckdb


def write(folder: Path, day: str, file: Path) -> None:
    with duckdb.connect(str(folder / "rows.duckdb")) as db:
        db.execute(f"CREATE TABLE IF NOT EXISTS main.rows AS SELECT * FROM '{file}' LIMIT 0")
        db.execute("DELETE FROM main.rows WHERE batch_date = ?", [day])
        db.execute(f"INSERT INTO main.rows SELECT * FROM '{file}'")


def whole(folder: Path, first: str, last: str, file: Path) -> None:
    with duckdb.connect(str(folder / "rows.duckdb")) as db:
        db.execute(f"CREATE TABLE IF NOT EXISTS main.rows AS SELECT * FROM '{file}' LIMIT 0")
        db.execute("DELETE FROM main.rows WHERE batch_date BETWEEN ? AND ?", [first, last])
        db.execute(f"INSERT INTO main.rows SELECT * FROM '{file}'")


if __name__ == "__main__":
    answer(
        write,
        lambda folder: from_duckdb(folder / "rows.duckdb", "main.rows"),
        lambda folder, text: comment_in_duckdb(folder / "rows.duckdb", "main.rows", text),
        lambda folder, day: frame_of_duckdb(folder / "rows.duckdb", "main.rows", day),
        whole,
        lambda folder: not_null_in_duckdb(folder / "rows.duckdb", "main.rows"),
    )
