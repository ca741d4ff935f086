"""What a loader's tables hold, by that loader's own version of DuckDB.

    python tables.py FILE ORDERS SALES

Prints `[rows, pieces, value, rows of the aggregate, pieces, value]` as JSON, to a tenth of a penny: some tools keep
prices as floating point numbers.
"""

from __future__ import annotations

import json
import sys

import duckdb


def main() -> None:
    file, orders, sales = sys.argv[1:]
    with duckdb.connect(file, read_only=True) as db:
        rows = db.execute(f"SELECT count(*), sum(quantity), sum(quantity * unit_price) FROM {orders}").fetchone()
        days = db.execute(f"SELECT count(*), sum(units), sum(revenue) FROM {sales}").fetchone()
    print(json.dumps([round(float(figure), 3) for figure in [*rows, *days]]))


if __name__ == "__main__":
    main()
