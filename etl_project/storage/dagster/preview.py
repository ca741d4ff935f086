"""Preview: a few committed rows of every partition of a write, as a Markdown table for the UI.

Belongs here: fetching them with one query whatever the number of partitions, and making them text that is short and
means nothing to Markdown. Does not belong here: whether previews are wanted (the IO manager and its settings say).

Which rows are shown is whatever is quickest to get. They are read after the commit and outside of it: a preview is no
part of what is promised about data.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from etl_project.storage.contract import Partition, Scope, Slice, Store, Table
from etl_project.storage.judging.placement import Placement, placing
from etl_project.storage.sql import Binds, quote, unique

SHOWN_LETTERS = 40
SHOWN_COLUMNS = 25

_MARKS = re.compile(r"([\\`*\[\]<>|~$&#!]|(?<![^\W_])_|_(?![^\W_]))")
_BLANKS = re.compile(r"\s+")


def previews(store: Store, table: Table, scope: Scope, count: int) -> dict[str | None, str]:
    """Up to `count` rows of each partition as Markdown; a partition without rows is left out.

    A partition column that only repeats the partition's key is left out, too. Raises what reading the table raises:
    ReadRefused (retrying does not help), StoreBusy (it does).
    """
    rows = store.arrow(first_rows(store, table, scope, count))
    owners = {_named(n, partition): partition.key for n, partition in enumerate(scope.partitions)}
    keys = [owners[name] for name in rows.column(rows.num_columns - 1).to_pylist()]
    rows = rows.select(range(rows.num_columns - 1))
    column = table.partition_column
    if column in rows.column_names and rows.num_columns > 1 and rows.column(column).to_pylist() == keys:
        rows = rows.drop_columns([column])
    found: dict[str | None, list[Sequence[str | None]]] = defaultdict(list)
    for key, *values in zip(keys, *(column.to_pylist() for column in rows.columns), strict=True):
        found[key].append(values)
    return {key: markdown(rows.column_names, values) for key, values in found.items()}


def wanted(metadata: Mapping[str, object], default: int) -> int:
    """How many rows an asset lets be seen: its metadata `preview_rows`, else the default; 0 shows none."""
    value = metadata.get("preview_rows", default)
    value = getattr(value, "value", value)
    return max(0, value) if isinstance(value, int) else default


def first_rows(store: Store, table: Table, scope: Scope, count: int) -> Slice:
    """The query: all columns as text, cut, and last what names the row's partition (see `_named`).

    Ordering the rows of a partition by the partition says nothing, but lets DuckDB keep `count` of them while it scans.
    """
    piece, owner, binds = store.read(table, scope), quote(unique("owner")), Binds()
    if len(scope.partitions) == 1:
        name = binds.add(_named(0, scope.partitions[0]))
        some = f"SELECT *, {name} AS {owner} FROM ({piece.sql}) LIMIT {int(count)}"
    else:
        some = (
            f"SELECT *, {_naming(store, table, scope, binds)} AS {owner} FROM ({piece.sql}) "
            f"QUALIFY row_number() OVER (PARTITION BY {owner} ORDER BY {owner}) <= {int(count)}"
        )
    text = f"left(COLUMNS(* EXCLUDE ({owner}))::VARCHAR, {SHOWN_LETTERS + 1}) AS '\\0'"
    values = {**piece.params, **binds.values}
    return replace(piece, sql=f"SELECT {text}, {owner}::VARCHAR FROM ({some})", params=values, reads=())


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    """A Markdown table; long values and many columns are cut, and it says so."""
    shown = columns[:SHOWN_COLUMNS]
    lines = [shown, ["---"] * len(shown), *(row[:SHOWN_COLUMNS] for row in rows)]
    cells = [[line if n == 1 else _cell(line) for line in cells] for n, cells in enumerate(lines)]
    table = "\n".join(f"| {' | '.join(map(str, line))} |" for line in cells)
    more = len(columns) - len(shown)
    return f"{table}\n\nand {more} more columns" if more else table


def _named(position: int, partition: Partition) -> str:
    """The text by which a row names its partition: the key, the day, else the position in the scope."""
    if partition.upper is None:
        return str(partition.key)
    return str(position) if isinstance(partition.lower, datetime) else str(partition.lower)


def _naming(store: Store, table: Table, scope: Scope, binds: Binds) -> str:
    """SQL for that text. Keys and days are casts, whatever type the column has; spans of time have to be searched."""
    first, column = scope.partitions[0], str(table.partition_column)
    if table.dimensions:
        return placing(table, scope, _typed(store, table, first))[0]
    if first.upper is None:
        return f"{quote(column)}::VARCHAR"
    if not isinstance(first.lower, datetime):
        return f"{quote(column)}::DATE"
    (_, value, kind) = next(c for c in _typed(store, table, first) if c[0].lower() == column.lower())
    return Placement(scope, column, kind.id).position(value, binds)


class _Type(NamedTuple):
    id: str


def _typed(store: Store, table: Table, partition: Partition) -> list[tuple[str, str, _Type]]:
    """The partition columns as `placing` takes columns."""
    piece = store.read(table, Scope((partition,)), table.partition_columns)
    empty = store.arrow(replace(piece, sql=f"SELECT * FROM ({piece.sql}) LIMIT 0", reads=()))
    return [(field.name, quote(field.name), _Type(_kind(field.type))) for field in empty.schema]


def _kind(column: pa.DataType) -> str:
    """DuckDB's id of the type of a partition column."""
    if pa.types.is_timestamp(column):
        return "timestamp" if column.tz is None else "timestamp with time zone"
    return "date" if pa.types.is_date(column) else "varchar"


def _cell(value: str | None) -> str:
    if value is None:
        return "NULL"
    cut = value if len(value) <= SHOWN_LETTERS else f"{value[:SHOWN_LETTERS]}…"
    return plain(cut)


def plain(value: str) -> str:
    """The text on one line, with nothing in it that means something to Markdown."""
    return _MARKS.sub(r"\\\1", _BLANKS.sub(" ", value))
