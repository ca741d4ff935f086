"""DuckLake by hand: DELETE the day and INSERT it in one transaction, as its docs advise for what has no keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extension_ducklake
from common import answer


@contextmanager
def lake(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    extension = Path(duckdb_extension_ducklake.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    with duckdb.connect() as db:
        db.execute(f"LOAD '{extension}/ducklake.duckdb_extension'")
        db.execute(f"ATTACH 'ducklake:{folder}/catalog.ducklake' AS lake (DATA_PATH '{folder}/files/')")
        db.execute("USE lake")
        yield db


def write(folder: Path, day: str, file: Path) -> None:
    with lake(folder) as db:
        db.execute(f"CREATE TABLE IF NOT EXISTS rows AS SELECT * FROM '{file}' LIMIT 0")
        db.execute("BEGIN")
        db.execute("DELETE FROM rows WHERE batch_date = ?", [day])
        db.execute(f"INSERT INTO rows SELECT * FROM '{file}'")
        db.execute("COMMIT")


def whole(folder: Path, first: str, last: str, file: Path) -> None:
    with lake(folder) as db:
        db.execute(f"CREATE TABLE IF NOT EXISTS rows AS SELECT * FROM '{file}' LIMIT 0")
        db.execute("BEGIN")
        db.execute("DELETE FROM rows WHERE batch_date BETWEEN ? AND ?", [first, last])
        db.execute(f"INSERT INTO rows SELECT * FROM '{file}'")
        db.execute("COMMIT")


def read(folder: Path) -> Iterable[dict[str, Any]]:
    with lake(folder) as db:
        try:
            found = db.execute("SELECT * FROM rows ORDER BY ALL")
        except duckdb.CatalogException:
            return []
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def comment(folder: Path, text: str | None) -> str | None:
    with lake(folder) as db:
        if text is not None:
            db.execute(f"COMMENT ON TABLE rows IS '{text}'")
        found = db.execute("SELECT comment FROM duckdb_tables() WHERE table_name = 'rows'").fetchone()
        return found[0] if found else None


def constrain(folder: Path) -> None:
    with lake(folder) as db:
        db.execute("ALTER TABLE rows ALTER COLUMN amount SET NOT NULL")


def load(folder: Path, day: str) -> Any:
    with lake(folder) as db:
        return db.execute("SELECT * FROM rows WHERE batch_date = CAST(? AS DATE)", [day]).fetchdf()


if __name__ == "__main__":
    answer(write, read, comment, load, whole, constrain)
