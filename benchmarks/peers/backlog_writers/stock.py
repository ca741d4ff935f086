"""Dagster's own IO manager for DuckDB and pandas: two assets by day, as its page on partitioned assets says."""

import dagster as dg
import pandas as pd
from common import Asked
from dagster_duckdb_pandas import DuckDBPandasIOManager

DAYS = dg.DailyPartitionsDefinition("2000-01-01")
BY_DAY = {
    "partitions_def": DAYS,
    "metadata": {"partition_expr": "batch_date"},
    "backfill_policy": dg.BackfillPolicy.single_run(),
}


def load(work: Asked, days: list[tuple[str, str]]) -> None:
    """One run for each of these ranges, in one process."""

    @dg.asset(**BY_DAY)
    def orders(context: dg.AssetExecutionContext) -> pd.DataFrame:
        present = [work.folder / "files" / f"{day}.csv" for day in context.partition_keys]
        return pd.concat([_typed(file) for file in present if file.exists()], ignore_index=True)

    @dg.asset(**BY_DAY)
    def daily_sales(orders: pd.DataFrame) -> pd.DataFrame:
        priced = orders.assign(revenue=orders["quantity"] * orders["unit_price"])
        groups = priced.groupby(["batch_date", "stock_code"], as_index=False)
        return groups.agg(units=("quantity", "sum"), revenue=("revenue", "sum"), invoices=("invoice_no", "nunique"))

    manager = DuckDBPandasIOManager(database=str(work.warehouse), schema="main")
    with dg.DagsterInstance.local_temp(str(work.folder)) as instance:
        for first, last in days:
            tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
            dg.materialize([orders, daily_sales], tags=tags, resources={"io_manager": manager}, instance=instance)


def _typed(file: object) -> pd.DataFrame:
    rows = pd.read_csv(file, dtype={"InvoiceNo": str, "StockCode": str, "CustomerID": float})
    local = pd.to_datetime(rows["InvoiceDate"]).dt.tz_localize("Europe/London")
    return pd.DataFrame(
        {
            "batch_date": pd.Timestamp(file.stem),
            "invoice_no": rows["InvoiceNo"],
            "stock_code": rows["StockCode"],
            "description": rows["Description"],
            "quantity": rows["Quantity"].astype("int32"),
            "invoiced_at": local.dt.tz_convert("UTC"),
            "unit_price": rows["UnitPrice"],
            "customer_id": rows["CustomerID"].astype("Int64"),
            "country": rows["Country"],
        }
    )
