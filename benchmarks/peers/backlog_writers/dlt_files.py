"""dlt: a resource of the files' rows, merged by day; the aggregate by SQL in its client, as its docs on SQL say."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")

import dlt
import duckdb
import pyarrow as pa
from common import Asked, aggregate, asked, tell, typed


def main() -> None:
    work = asked()

    @dlt.resource(
        name="orders",
        write_disposition={"disposition": "merge", "strategy": "delete-insert"},
        merge_key="batch_date",
    )
    def orders() -> Iterator[pa.Table]:
        yield rows(work)

    pipeline = dlt.pipeline(
        "backlog",
        pipelines_dir=str(work.folder / "pipelines"),
        destination=dlt.destinations.duckdb(str(work.warehouse)),
        dataset_name="main_data",
    )
    pipeline.run(orders)
    with pipeline.sql_client() as client:
        client.execute_sql(f"CREATE TABLE IF NOT EXISTS daily_sales AS {aggregate('orders')} LIMIT 0")
        client.execute_sql("DELETE FROM daily_sales WHERE batch_date BETWEEN %s AND %s", work.first, work.last)
        days = f"(SELECT * FROM orders WHERE batch_date BETWEEN '{work.first}' AND '{work.last}')"
        client.execute_sql(f"INSERT INTO daily_sales {aggregate(days)}")
    tell(work.warehouse, "main_data.orders", "main_data.daily_sales")


def rows(work: Asked) -> pa.Table:
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        return db.execute(typed([str(file) for file in work.files])).to_arrow_table()


if __name__ == "__main__":
    main()
