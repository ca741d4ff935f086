"""pyiceberg: overwrite with a filter, as its page on partial overwrites says."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from common import answer
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import EqualTo
from pyiceberg.table import Table


def catalog(folder: Path) -> SqlCatalog:
    made = SqlCatalog("peers", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
    made.create_namespace_if_not_exists("main")
    return made


def made(folder: Path, rows: pa.Table) -> Table:
    """The table, by day as its page on partitioning says."""
    known = catalog(folder)
    if known.table_exists("main.rows"):
        return known.load_table("main.rows")
    with known.create_table_if_not_exists("main.rows", schema=rows.schema).update_spec() as partitions:
        partitions.add_identity("batch_date")
    return known.load_table("main.rows")


def write(folder: Path, day: str, file: Path) -> None:
    rows: pa.Table = pq.read_table(file)
    made(folder, rows).overwrite(rows, overwrite_filter=EqualTo("batch_date", date.fromisoformat(day)))


def whole(folder: Path, first: str, last: str, file: Path) -> None:
    rows: pa.Table = pq.read_table(file)
    made(folder, rows).overwrite(rows)


def read(folder: Path) -> Iterable[dict[str, Any]]:
    try:
        return catalog(folder).load_table("main.rows").scan().to_arrow().to_pylist()
    except NoSuchTableError:
        return []


def comment(folder: Path, text: str | None) -> str | None:
    table = catalog(folder).load_table("main.rows")
    if text is not None:
        with table.transaction() as transaction:
            transaction.set_properties(comment=text)
    return catalog(folder).load_table("main.rows").properties.get("comment")


def constrain(folder: Path) -> None:
    with catalog(folder).load_table("main.rows").update_schema(allow_incompatible_changes=True) as update:
        update.update_column("amount", required=True)


def load(folder: Path, day: str) -> Sized:
    wanted = EqualTo("batch_date", date.fromisoformat(day))
    return catalog(folder).load_table("main.rows").scan(row_filter=wanted).to_pandas()


if __name__ == "__main__":
    answer(write, read, comment, load, whole, constrain)
