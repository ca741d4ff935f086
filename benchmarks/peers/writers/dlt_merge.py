"""dlt into DuckDB: merge by delete and insert with the day as merge key, as its page on incremental loading says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")

import dlt
import pyarrow.parquet as pq
from common import answer, comment_in_duckdb, from_duckdb, not_null_in_duckdb


def pipeline(folder: Path) -> dlt.Pipeline:
    return dlt.pipeline(
        "peers",
        pipelines_dir=str(folder / "pipelines"),
        destination=dlt.destinations.duckdb(str(folder / "rows.duckdb")),
        dataset_name="main_data",
    )


def write(folder: Path, day: str, file: Path) -> None:
    resource = dlt.resource(
        pq.read_table(file),
        name="rows",
        write_disposition={"disposition": "merge", "strategy": "delete-insert"},
        merge_key="batch_date",
    )
    pipeline(folder).run(resource)


def whole(folder: Path, first: str, last: str, file: Path) -> None:
    write(folder, first, file)


def read(folder: Path) -> Iterable[dict[str, Any]]:
    found = from_duckdb(folder / "rows.duckdb", "main_data.rows")
    return [{name: value for name, value in row.items() if not name.startswith("_dlt")} for row in found]


def load(folder: Path, day: str) -> Sized:
    query = "SELECT * FROM rows WHERE batch_date = CAST(%s AS DATE)"
    with pipeline(folder).sql_client() as client, client.execute_query(query, day) as cursor:
        found: Sized = cursor.df()
    return found


if __name__ == "__main__":
    answer(
        write,
        read,
        lambda folder, text: comment_in_duckdb(folder / "rows.duckdb", "main_data.rows", text),
        load,
        whole,
        lambda folder: not_null_in_duckdb(folder / "rows.duckdb", "main_data.rows"),
    )
