"""Fetch: the result of a query as Arrow, whichever version of DuckDB gives it.

Belongs here: what DuckDB 1.4, 1.5 and 2 call otherwise, and nothing else.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa


def arrow_table(result: duckdb.DuckDBPyConnection) -> pa.Table:
    """The rows of a query, in memory. DuckDB 1.5 and 2 call it otherwise than 1.4 does."""
    if hasattr(result, "to_arrow_table"):
        return result.to_arrow_table()
    return result.fetch_arrow_table()


def arrow_reader(result: duckdb.DuckDBPyConnection, batch_rows: int = 1_000_000) -> pa.RecordBatchReader:
    """The rows of a query as a stream, in batches of so many."""
    if hasattr(result, "to_arrow_reader"):
        return result.to_arrow_reader(batch_rows)
    return result.fetch_record_batch(batch_rows)
