"""What must hold between the tables of a day, whatever built them."""

import dagster as dg
from dagster_duckdb import DuckDBResource

from etl_project.declare import by_partition, daily_partitions
from etl_project.storage import has_table

DIFFERENT_REVENUE = """
select coalesce(o.batch_date, s.batch_date) as day, coalesce(o.revenue, 0) as orders, coalesce(s.revenue, 0) as sales
from (select batch_date, sum(quantity * unit_price) as revenue from orders group by batch_date) o
full join (select batch_date, sum(revenue) as revenue from daily_sales group by batch_date) s using (batch_date)
where coalesce(o.revenue, 0) <> coalesce(s.revenue, 0)
order by day
"""


@dg.asset_check(
    asset="daily_sales",
    description="The revenue of daily_sales is that of orders, for every day.",
    partitions_def=daily_partitions(),
)
def revenue_is_that_of_the_orders(
    context: dg.AssetCheckExecutionContext, duckdb: DuckDBResource
) -> dg.AssetCheckResult:
    """Compare both sums over all days, whatever the run built: each day that differs is red."""
    with duckdb.get_connection() as connection:
        built = has_table(connection, "daily_sales")
        differing = connection.execute(DIFFERENT_REVENUE).fetchall() if built else []
    red = {
        str(day): dg.AssetCheckResult(passed=False, description=f"orders {orders}, daily_sales {sales}")
        for day, orders, sales in differing
    }
    return by_partition(context, red, otherwise=dg.AssetCheckResult(passed=True))
