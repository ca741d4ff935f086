"""What a safe write costs in each warehouse and on each root of the lake, in one run, as ratios.

    python -m benchmarks.warehouses                  10,000, 100,000 and 1 M rows of eight columns
    python -m benchmarks.warehouses 10000 100000

A day is written again with other rows. Beside it, in turns, the engine's bare transaction by way of the same DuckDB
(open, DELETE, INSERT, COMMIT; by COPY in PostgreSQL), the bare file (Parquet, fsync, rename), or the bare PUT of
the same Parquet. The best of five counts. PostgreSQL and the bucket are those of the tests: ETL_TEST_POSTGRES,
ETL_TEST_S3 and the AWS_ variables (deploy/postgres/start.sh, deploy/s3/start.sh); what is not set is left out.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.storage_speed import DAY, TABLE, rows, scope, seconds
from etl_project.storage.contract import Request, Store
from etl_project.storage.engines.duckdb_file import DuckDBStore
from etl_project.storage.lake.store import ParquetStore
from etl_project.storage.tables.store import TableStore
from etl_project_tests import postgres, s3

TIMES = 5
Bare = Callable[[pa.Table], None]


def bare_transaction(store: TableStore) -> Bare:
    """What one would write by hand: atomic, and nothing else."""
    name = f"{store.engine.schema}.bare"

    def write(data: pa.Table) -> None:
        with store.connect() as connection:
            connection.register("incoming", data)
            connection.begin()
            connection.execute(f"DELETE FROM {name} WHERE batch_date = ?", [DAY])
            connection.execute(f"INSERT INTO {name} SELECT * FROM incoming")
            connection.commit()

    with store.connect() as connection:
        connection.register("incoming", rows(0, DAY))
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
    return write


def bare_file(folder: Path) -> Bare:
    def write(data: pa.Table) -> None:
        folder.mkdir(exist_ok=True)
        with (folder / "new").open("wb") as file:
            pq.write_table(data, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        (folder / "new").rename(folder / "data.parquet")

    return write


def bare_put(folder: Path) -> Bare:
    from obstore.store import from_url  # An extra.

    bucket = from_url(s3.url_of(folder), client_options={"allow_http": True})

    def write(data: pa.Table) -> None:
        file = BytesIO()
        pq.write_table(data, file, compression="zstd")
        bucket.put("data.parquet", file.getvalue())

    return write


def places(folder: Path) -> Iterator[tuple[str, Store, Bare]]:
    file = DuckDBStore(folder / "w.duckdb")
    yield "DuckDB file", file, bare_transaction(file)
    if postgres.SERVER:
        from etl_project.storage.engines.ducklake.engine import DuckLakeStore  # Extras.
        from etl_project.storage.engines.postgres.engine import PostgresStore

        lake = DuckLakeStore(postgres.url_of(folder / "lake"), folder / "files", scratch=folder)
        yield "DuckLake on PostgreSQL, files on this disk", lake, bare_transaction(lake)
        server = PostgresStore(postgres.plain_url_of(folder / "server"), scratch=folder)
        yield "PostgreSQL", server, bare_transaction(server)
    yield "lake in a folder", ParquetStore(folder / "ours"), bare_file(folder / "bare")
    if s3.BUCKET:
        yield "lake in a bucket", s3.lake_of(folder / "bucket"), bare_put(folder / "bare-bucket")


def compare(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="etl-benchmark-") as scratch:
        for name, store, bare in places(Path(scratch)):
            ours, theirs = [], []
            for seed in range(TIMES + 1):  # The first one makes the table.
                data = rows(count, DAY, seed)
                ours.append(seconds(store.replace, TABLE, scope(DAY), data, Request("r")))
                theirs.append(seconds(bare, data))
            one, other = min(ours[1:]) * 1000, min(theirs[1:]) * 1000
            print(f"{count:,} rows, {name}: {one:.0f} ms, bare {other:.0f} ms, ratio {one / other:.2f}", flush=True)


if __name__ == "__main__":
    gc.enable()  # Tests do without while they are loaded.
    for asked in sys.argv[1:] or ("10000", "100000", "1000000"):
        compare(int(asked))
