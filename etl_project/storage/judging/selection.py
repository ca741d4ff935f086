"""Selection: which partitions and columns of a table are asked for, whichever store holds it.

Belongs here: refusing what no table can have, and the columns and the clause of a read. No database is touched here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etl_project.storage.contract import ReadRefused, Scope, Table, WriteRefused
from etl_project.storage.judging.messages import what
from etl_project.storage.judging.placement import NoPartitionColumn, placing
from etl_project.storage.sql import Binds, quote


def check(table: Table, scope: Scope) -> None:
    """Refuse a scope that no table can have. Raises WriteRefused (retrying does not help)."""
    keys = [partition.key for partition in scope.partitions]
    if not keys or "" in keys or (None in keys and len(keys) > 1) or len(set(keys)) < len(keys):
        raise WriteRefused(f"Asset {table.asset!r}: {keys[:5]!r} is no set of partitions. Retrying does not help.")
    if keys != [None] and not table.partition_columns:
        raise WriteRefused(
            f"{what(table, scope)}: a partitioned asset needs a partition column. Retrying does not help. "
            "Set its metadata 'partition_column'."
        )


def chosen(kinds: Mapping[str, Any], columns: Sequence[str] | None, table: Table, scope: Scope) -> list[str]:
    """The columns asked for, as the table spells them."""
    spelled = {name.lower(): name for name in kinds}
    if columns is None:
        return list(kinds)
    missing = [name for name in columns if name.lower() not in spelled]
    if missing:
        raise ReadRefused(
            f"{what(table, scope)}: there are no columns {', '.join(map(repr, missing))}; there are "
            f"{', '.join(map(repr, kinds))}. Retrying does not help."
        )
    return [spelled[name.lower()] for name in columns]


def where(kinds: Mapping[str, Any], table: Table, scope: Scope, binds: Binds) -> str:
    """The clause that limits a read to the partitions; empty for a whole table. ReadRefused without its columns."""
    if not scope.partitions:
        return " WHERE false"
    if scope.partitions[0].key is None:
        return ""
    try:
        value, placement = placing(table, scope, ((name, quote(name), kind) for name, kind in kinds.items()))
    except NoPartitionColumn as error:
        raise ReadRefused(
            f"{what(table, scope)}: the table has no partition column {error.args[0]}; its columns are "
            f"{', '.join(map(repr, kinds))}. Retrying does not help."
        ) from error
    return f" WHERE {placement.within(value, binds)}"
