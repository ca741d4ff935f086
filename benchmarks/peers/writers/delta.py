"""delta-rs: overwrite with a predicate, as its page on overwriting part of a table says."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from common import answer
from deltalake import DeltaTable, write_deltalake


def write(folder: Path, day: str, file: Path) -> None:
    table = str(folder / "rows")
    rows = pq.read_table(file)
    if DeltaTable.is_deltatable(table):
        write_deltalake(table, rows, mode="overwrite", predicate=f"batch_date = '{day}'")
    else:
        write_deltalake(table, rows, mode="append", partition_by=["batch_date"])


def whole(folder: Path, first: str, last: str, file: Path) -> None:
    write_deltalake(str(folder / "rows"), pq.read_table(file), mode="overwrite", partition_by=["batch_date"])


def read(folder: Path) -> Iterable[dict[str, Any]]:
    if not DeltaTable.is_deltatable(str(folder / "rows")):
        return []
    import pyarrow as pa

    return pa.table(DeltaTable(str(folder / "rows")).to_pyarrow_table()).to_pylist()


def comment(folder: Path, text: str | None) -> str | None:
    table = DeltaTable(str(folder / "rows"))
    if text is not None:
        table.alter.set_table_description(text)
    return DeltaTable(str(folder / "rows")).metadata().description


def constrain(folder: Path) -> None:
    DeltaTable(str(folder / "rows")).alter.add_constraint({"has_amount": "amount IS NOT NULL"})


def load(folder: Path, day: str) -> Sized:
    return DeltaTable(str(folder / "rows")).to_pandas(partitions=[("batch_date", "=", day)])


if __name__ == "__main__":
    answer(write, read, comment, load, whole, constrain)
