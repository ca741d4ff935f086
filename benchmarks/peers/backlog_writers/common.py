"""What every loader has in common: the words of its command, the SQL of the work, and what it tells in the end.

    python LOADER FOLDER all|one FIRST LAST    load FOLDER/files/DAY.csv of these days into FOLDER/warehouse.duckdb

The last line of the output is JSON: the DuckDB file, the name of the table of orders and that of the aggregate.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple


class Asked(NamedTuple):
    """What a loader was asked: days from the first to the last, and whether they are all there are."""

    folder: Path
    everything: bool
    first: str
    last: str

    @property
    def files(self) -> list[Path]:
        """The files of these days, in order."""
        every = sorted((self.folder / "files").glob("*.csv"))
        return [file for file in every if self.first <= file.stem <= self.last]

    @property
    def warehouse(self) -> Path:
        """The DuckDB file that is loaded."""
        return self.folder / "warehouse.duckdb"


def asked() -> Asked:
    folder, what, first, last = sys.argv[1:]
    return Asked(Path(folder), what == "all", first, last)


def typed(files: str) -> str:
    """The query of the typed rows of these CSV files: a path with stars, or a list in brackets."""
    return f"""
SELECT CAST(parse_filename(filename, true) AS DATE) AS batch_date, InvoiceNo AS invoice_no, StockCode AS stock_code,
       Description AS description, CAST(Quantity AS INTEGER) AS quantity,
       timezone('Europe/London', CAST(InvoiceDate AS TIMESTAMP)) AS invoiced_at,
       CAST(UnitPrice AS DECIMAL(12, 3)) AS unit_price,
       CAST(CAST(CustomerID AS DOUBLE) AS BIGINT) AS customer_id, Country AS country
FROM read_csv({files}, all_varchar = true, filename = true, header = true)"""


def aggregate(table: str) -> str:
    """The query of the aggregate of a day's rows."""
    return f"""
SELECT batch_date, stock_code, sum(quantity) AS units, sum(quantity * unit_price) AS revenue,
       count(DISTINCT invoice_no) AS invoices
FROM {table} GROUP BY ALL"""


def tell(file: Path, orders: str, sales: str) -> None:
    """Print where the tables are: `tables.py` reads them once this process is gone, as some keep the file open."""
    print(json.dumps([str(file), orders, sales]))
