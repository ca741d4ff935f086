"""What must hold between reconciliation, orders and payments of a day, whatever built them."""

import dagster as dg
from dagster_duckdb import DuckDBResource

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
)
def sums_are_those_of_orders_and_payments(duckdb: DuckDBResource) -> dg.AssetCheckResult:
    """Compare the sums over all days, whatever the run built: a check has one result, which the next run replaces."""
    with duckdb.get_connection() as connection:
        built = has_table(connection, "daily_reconciliation")
        differing = connection.execute(DIFFERENT_SUMS).fetchall() if built else []
    return dg.AssetCheckResult(
        passed=not differing,
        description="; ".join(
            f"{day}: revenue {revenue}, orders {orders}; paid {paid} in {count}, payments {received} in {messages}"
            for day, revenue, orders, paid, received, count, messages in differing
        )
        or None,
        metadata={"days that differ": len(differing)},
    )
