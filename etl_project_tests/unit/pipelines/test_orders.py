"""The sample pipeline's own logic: customers, the report of a day, its chart, and the sample files."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from etl_project.demo import sample

assets = pytest.importorskip("etl_project.pipelines.orders.assets", reason="the sample was taken out")
day_chart = pytest.importorskip("etl_project.pipelines.orders.chart").day_chart

DAY = date(2025, 3, 3)
FOLDER = Path(assets.__file__).parent


def lines(*rows: tuple[str, int | None, int, str]) -> pd.DataFrame:
    """Order lines as the IO manager delivers them: (invoice, customer, quantity, price)."""
    table = pa.table(
        {
            "batch_date": pa.array([DAY] * len(rows), pa.date32()),
            "invoice_no": pa.array([row[0] for row in rows], pa.string()),
            "customer_id": pa.array([row[1] for row in rows], pa.int64()),
            "quantity": pa.array([row[2] for row in rows], pa.int32()),
            "unit_price": pa.array([Decimal(row[3]) for row in rows], pa.decimal128(12, 3)),
        }
    )
    return table.to_pandas(types_mapper=pd.ArrowDtype)


def test_orders_without_a_customer_are_one_row_of_their_own_and_nothing_is_lost() -> None:
    found = assets.per_customer(
        lines(("1", 7, 2, "1.255"), ("1", 7, 1, "0.001"), ("2", None, 3, "2"), ("C3", 7, -1, "1.255"))
    )
    rows = found.astype(object).where(found.notna(), None).to_dict("records")
    assert [(row["customer_id"], row["invoices"], row["units"], row["revenue"]) for row in rows] == [
        (7, 2, 2, Decimal("1.256")),
        (None, 1, 3, Decimal("6.000")),
    ]


def test_an_empty_day_has_no_customers_and_keeps_its_columns() -> None:
    found = assets.per_customer(lines())
    assert list(found.columns) == ["batch_date", "customer_id", "invoices", "units", "revenue"]
    assert len(found) == 0


@pytest.fixture
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute((FOLDER / "contract.sql").read_text())
        yield connection


def test_a_closed_day_is_reported_with_zeros_and_ties_go_to_the_first_product(
    warehouse: duckdb.DuckDBPyConnection,
) -> None:
    warehouse.execute("insert into daily_sales values ('2025-03-03', 'B', 1, 5, 1), ('2025-03-03', 'A', 1, 5, 1)")
    warehouse.execute(
        "insert into orders values ('2025-03-03', '1', 1, 'A', null, 2, '2025-03-03 09:00:00Z', 5, null, 'x'),"
        "('2025-03-03', 'C2', 1, 'A', null, -1, '2025-03-03 09:00:00Z', 5, 3, 'x')"
    )
    days = {"first": "2025-03-03", "last": "2025-03-04"}
    rows = warehouse.execute((FOLDER / "report_rows.sql").read_text(), days).fetchall()
    assert rows == [
        (DAY, Decimal("5.000"), 2, 1, Decimal("0.500000"), "A"),
        (date(2025, 3, 4), Decimal("0.000"), 0, 0, Decimal("0.000000"), None),
    ]


def test_the_hours_of_the_chart_are_those_of_the_shops_clock(warehouse: duckdb.DuckDBPyConnection) -> None:
    warehouse.execute(
        "insert into orders values ('2025-04-01', '1', 1, 'A', null, 2, '2025-04-01 09:30:00Z', 5, null, 'x')"
    )
    days = {"first": "2025-04-01", "last": "2025-04-01"}
    assert warehouse.execute((FOLDER / "report_hours.sql").read_text(), days).fetchall() == [
        ("2025-04-01", "10:00", 10.0)
    ]


def test_names_in_a_chart_cannot_break_out_of_it() -> None:
    markdown = day_chart("2025-03-03", [("09:00", 1.0)], [("<script>&", -2.0)])
    svg = base64.b64decode(markdown.split("base64,")[1].rstrip(")")).decode()
    assert "<script>" not in svg and "&lt;script&gt;&amp;" in svg


def test_the_sample_is_the_same_at_every_call_and_has_its_dirt() -> None:
    first = sample.first_delivery()
    assert first == sample.first_delivery()
    names = [file.name for file in first]
    assert len(names) == len(set(names)) == 28
    by_name = {file.name: file.content for file in first}
    assert by_name["orders-2025-03-18.csv"] == by_name["orders-2025-03-18-copy.csv"]
    assert by_name["orders-2025-03-20.csv"] != sample.correction()[0].content
    text = b"".join(file.content for file in first if file.name.endswith(".csv")).decode()
    assert ",C56" in text.replace("\n", ",") and ",," in text and "2025-02-30" in text
