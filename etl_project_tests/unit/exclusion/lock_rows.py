"""What lies in the file of a task lock, looked at and changed behind its back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

MONDAY, TUESDAY, WEDNESDAY = [("orders", f"2024-01-0{day}") for day in (1, 2, 3)]


def rows(
    path: Path, sql: str = "SELECT job_id, run_id, generation FROM task_lock ORDER BY 1"
) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def change(path: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql, values)
