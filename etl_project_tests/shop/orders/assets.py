"""The tables built from the orders: SQL in the writing transaction, pandas, and SQL on a connection of one's own."""

from collections import defaultdict
from functools import partial
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
from dagster_duckdb import DuckDBResource

from etl_project.declare import daily_table
from etl_project.storage import Slice, Sql

from .chart import day_chart

table = partial(daily_table, Path(__file__).parent)


@table(kinds={"sql"})
def daily_sales(orders: Slice) -> Sql:
    """Units, revenue and invoices of every product and day, returns taken off."""
    return Sql(
        """
        select batch_date, stock_code,
               sum(quantity)::bigint as units,
               sum(quantity * unit_price)::decimal(18, 3) as revenue,
               count(distinct invoice_no) as invoices
        from orders
        group by batch_date, stock_code
        """,
        orders=orders,
    )


@table(
    kinds={"pandas"},
    ins={
        "orders": dg.AssetIn(
            metadata={"columns": ["batch_date", "customer_id", "invoice_no", "quantity", "unit_price"]}
        )
    },
)
def daily_customers(orders: pd.DataFrame) -> pd.DataFrame:
    """What every customer bought on a day; orders without a customer are one row of their own."""
    return per_customer(orders)


def per_customer(orders: pd.DataFrame) -> pd.DataFrame:
    """One row a day and customer, from order lines. Prices stay decimals: sums do not depend on the order of rows."""
    lines = orders.assign(revenue=orders["quantity"] * orders["unit_price"])
    groups = lines.groupby(["batch_date", "customer_id"], dropna=False, sort=True)
    return groups.agg(
        invoices=("invoice_no", "nunique"), units=("quantity", "sum"), revenue=("revenue", "sum")
    ).reset_index()


@table(kinds={"sql"}, deps=["orders", "daily_sales"])
def daily_report(context: dg.AssetExecutionContext, duckdb: DuckDBResource) -> pa.Table:
    """The day in one row: revenue, invoices, customers, returned share, top product; with a chart of the day."""
    days = {"first": context.partition_key_range.start, "last": context.partition_key_range.end}
    queries = {path.stem: path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("report_*.sql")}
    with duckdb.get_connection() as connection:
        connection.execute("set timezone = 'UTC'")
        report = connection.execute(queries["report_rows"], days).to_arrow_table()
        hours = connection.execute(queries["report_hours"], days).fetchall()
        products = connection.execute(queries["report_products"], days).fetchall()
    charts = charts_by_day(hours, products)
    for row in report.to_pylist():
        key = row["batch_date"].isoformat()
        numbers = {name: float(row[name]) for name in ("revenue", "invoices", "customers", "returned_share")}
        chart = charts.get(key) or day_chart(key, [], [])
        context.add_asset_metadata(
            {**numbers, "top_product": row["top_product"] or "none", "chart of the day": dg.MetadataValue.md(chart)},
            partition_key=key,
        )
    return report


def charts_by_day(hours: list[tuple[str, str, float]], products: list[tuple[str, str, float]]) -> dict[str, str]:
    """One chart a day that sold anything, from rows of (day, label, pounds)."""
    by_day: dict[str, tuple[list[tuple[str, float]], list[tuple[str, float]]]] = defaultdict(lambda: ([], []))
    for place, rows in enumerate((hours, products)):
        for day, label, amount in rows:
            by_day[day][place].append((label, amount))
    return {day: day_chart(day, *blocks) for day, blocks in by_day.items()}
