"""dbt with DuckDB: an incremental model with the microbatch strategy, as its page on microbatch says."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path

import duckdb
from common import answer, comment_in_duckdb, frame_of_duckdb, from_duckdb, not_null_in_duckdb
from dbt.cli.main import dbtRunner

_PROJECT = """
name: peers
version: "1.0"
profile: peers
model-paths: [models]
flags: {send_anonymous_usage_stats: false}
"""
_PROFILE = """
peers:
  target: dev
  outputs:
    dev: {{type: duckdb, path: "{folder}/rows.duckdb", threads: 1}}
"""
_SOURCES = """
version: 2
sources:
  - name: files
    tables:
      - name: arrived
        config: {{event_time: batch_date}}
        meta: {{external_location: "read_parquet('{folder}/files/*.parquet', union_by_name=true)"}}
"""
_MODEL = """
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='batch_date', batch_size='day',
          begin='2025-01-01') }}
SELECT * FROM {{ source('files', 'arrived') }}
"""


def write(folder: Path, day: str, file: Path) -> None:
    (folder / "files").mkdir(exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    shutil.copy(file, folder / "files" / f"{day}.parquet")
    (folder / "dbt_project.yml").write_text(_PROJECT)
    (folder / "profiles.yml").write_text(_PROFILE.format(folder=folder))
    (folder / "models" / "sources.yml").write_text(_SOURCES.format(folder=folder))
    (folder / "models" / "rows.sql").write_text(_MODEL)
    following = (date.fromisoformat(day) + timedelta(days=1)).isoformat()
    where = ["--project-dir", str(folder), "--profiles-dir", str(folder), "--quiet"]
    outcome = dbtRunner().invoke(["run", *where, "--event-time-start", day, "--event-time-end", following])
    if not outcome.success:
        raise SystemExit(f"dbt: {outcome.exception or [str(one.message) for one in outcome.result or []]}")


def whole(folder: Path, first: str, last: str, file: Path) -> None:
    """By DuckDB itself, into the table that the first day made: microbatch would run a batch for each of the days."""
    with duckdb.connect(str(folder / "rows.duckdb")) as db:
        db.execute(f"INSERT INTO main.rows BY NAME SELECT * FROM '{file}'")


if __name__ == "__main__":
    answer(
        write,
        lambda folder: from_duckdb(folder / "rows.duckdb", "main.rows"),
        lambda folder, text: comment_in_duckdb(folder / "rows.duckdb", "main.rows", text),
        lambda folder, day: frame_of_duckdb(folder / "rows.duckdb", "main.rows", day),
        whole,
        lambda folder: not_null_in_duckdb(folder / "rows.duckdb", "main.rows"),
    )
