"""SQLMesh with DuckDB: a model of kind INCREMENTAL_BY_TIME_RANGE, the day restated, as its docs say."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

os.environ["SQLMESH__DISABLE_ANONYMIZED_ANALYTICS"] = "true"

from common import answer, comment_in_duckdb, from_duckdb, not_null_in_duckdb
from sqlmesh import Context

_CONFIG = """
gateways:
  local:
    connection: {{type: duckdb, database: "{folder}/rows.duckdb"}}
default_gateway: local
model_defaults: {{dialect: duckdb, start: "1992-01-01"}}
"""
_MODEL = """
MODEL (name main_data.rows, kind INCREMENTAL_BY_TIME_RANGE (time_column batch_date), start '1992-01-01');
SELECT batch_date::DATE AS batch_date, id::BIGINT AS id, amount::BIGINT AS amount, sold_at::TIMESTAMPTZ AS sold_at
FROM read_parquet('{folder}/files/*.parquet', union_by_name=true) WHERE batch_date BETWEEN @start_ds AND @end_ds
"""


def write(folder: Path, day: str, file: Path) -> None:
    whole(folder, day, day, file)


def whole(folder: Path, first: str, last: str, file: Path) -> None:
    (folder / "files").mkdir(exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    shutil.copy(file, folder / "files" / f"{first}.parquet")
    (folder / "config.yaml").write_text(_CONFIG.format(folder=folder))
    (folder / "models" / "rows.sql").write_text(_MODEL.format(folder=folder))
    context = Context(paths=[str(folder)])
    if context.state_reader.get_environment("prod") is None:
        context.plan(auto_apply=True, no_prompts=True)
    context.plan(auto_apply=True, no_prompts=True, restate_models=["main_data.rows"], start=first, end=last)


def read(folder: Path) -> Iterable[dict[str, Any]]:
    return from_duckdb(folder / "rows.duckdb", "main_data.rows")


def table(folder: Path) -> str:
    """The table behind the view that a query names."""
    import duckdb

    with duckdb.connect(str(folder / "rows.duckdb")) as db:
        found = db.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE table_name LIKE '%rows%'"
        )
        return str(found.fetchall()[-1][0])


def load(folder: Path, day: str) -> Sized:
    found: Sized = Context(paths=[str(folder)]).fetchdf(f"SELECT * FROM main_data.rows WHERE batch_date = DATE '{day}'")
    return found


if __name__ == "__main__":
    answer(
        write,
        read,
        lambda folder, text: comment_in_duckdb(folder / "rows.duckdb", table(folder), text),
        load,
        whole,
        lambda folder: not_null_in_duckdb(folder / "rows.duckdb", table(folder)),
    )
