"""What must hold between reconciliation, orders and payments of a day, whatever built them."""

import dagster as dg
from dagster_duckdb import DuckDBResource

from etl_project.declare import by_partition, daily_partitions
from etl_project.storage import has_table

DIFFERENT_SUMS = """
select batch_date,
       r.revenue, coalesce(o.revenue, 0) as orders, r.paid, coalesce(p.paid, 0) as received,
       r.payments, coalesce(p.payments, 0) as messages
from daily_reconciliation r
left join (
    select batch_date, sum(quantity * unit_price) as revenue from orders group by batch_date
) o using (batch_date)
left join (
    select batch_date, sum(amount) filter (currency = 'GBP') as paid, count(*) as payments
    from payments group by batch_date
) p using (batch_date)
where (r.revenue <> coalesce(o.revenue, 0) or r.paid <> coalesce(p.paid, 0) or r.payments <> coalesce(p.payments, 0)
       or r.difference <> r.paid - r.revenue)
order by batch_date
"""


@dg.asset_check(
    asset="daily_reconciliation",
    description="Revenue, amount and number of payments are those of orders and payments, for every day.",
    partitions_def=daily_partitions(),
)
def sums_are_those_of_orders_and_payments(
    context: dg.AssetCheckExecutionContext, duckdb: DuckDBResource
) -> dg.AssetCheckResult:
    """Compare the sums over all days, whatever the run built: each day that differs is red."""
    with duckdb.get_connection() as connection:
        built = has_table(connection, "daily_reconciliation")
        differing = connection.execute(DIFFERENT_SUMS).fetchall() if built else []
    said = "revenue {}, orders {}; paid {} in {}, payments {} in {}"
    red = {
        str(day): dg.AssetCheckResult(passed=False, description=said.format(revenue, orders, paid, n, received, sent))
        for day, revenue, orders, paid, received, n, sent in differing
    }
    return by_partition(context, red, otherwise=dg.AssetCheckResult(passed=True))
