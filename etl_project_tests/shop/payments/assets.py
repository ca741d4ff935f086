"""Orders against payments: two sources joined by day, each in one query inside the writing transaction.

Both are daily and mapped day to day, so a day is built once it has orders and payments: a day of which one is missing
waits, and an empty one (a closed shop, a day nobody paid) counts as there. Payments of an invoice belong to its day.
"""

from functools import partial
from pathlib import Path

import dagster as dg

from etl_project import utc
from etl_project.declare import daily_table
from etl_project.storage import Slice, Sql

FOLDER = Path(__file__).parent
DAYS = "select unnest(generate_series($first_of_days::date, $last_of_days::date, interval 1 day))::date as batch_date"
table = partial(daily_table, FOLDER)


@table(kinds={"sql"})
def invoice_payments(orders: Slice, payments: Slice) -> Sql:
    """Every invoice beside what was paid for it, and what was paid for no invoice: `state` says what does not match."""
    return Sql(query("invoice_payments"), orders=orders, payments=payments)


@table(kinds={"sql"})
def daily_reconciliation(context: dg.AssetExecutionContext, invoice_payments: Slice) -> Sql:
    """The revenue of the orders against the amount of the payments, and how many match on neither side."""
    days = utc.days_of(context)
    calendar = Slice(DAYS, {"first_of_days": days[0], "last_of_days": days[-1]})
    return Sql(query("daily_reconciliation"), invoice_payments=invoice_payments, days=calendar)


def query(name: str) -> str:
    """The text of a query of this folder."""
    return (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
