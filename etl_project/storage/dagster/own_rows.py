"""Own rows: what an asset reads of its own earlier partitions, like a running balance.

Belongs here: that such an asset can begin, and that it is built in order. Its first partition reads nothing; a run over
several partitions is refused, since its body would read what the run itself is about to replace.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
import duckdb

from etl_project.failures import Permanent
from etl_project.storage.contract import Slice, Store, Table
from etl_project.storage.sql import quote
from etl_project.utc import keys_of_run


class NotInOrder(Permanent):
    """A run over several partitions of an asset that reads itself. Nothing was changed. Retrying does not help."""


def is_own(context: dg.InputContext) -> bool:
    """Whether the step reads the asset that it writes. Raises NotInOrder for a run over several partitions."""
    step: Any = context.step_context
    if step.assets_def is None or context.asset_key not in step.assets_def.keys:
        return False
    ends = keys_of_run(step.dagster_run.tags)
    if ends is not None and ends[0] != ends[1]:
        asset = context.asset_key.to_user_string()
        raise NotInOrder(
            f"Asset {asset!r} reads its own earlier partitions, so it is built in order, one partition a run, and not "
            f"from {ends[0]} to {ends[1]} at once: each would read the rows from before this run. Nothing was changed. "
            f"Retrying does not help. `etl drain --through {asset}` builds them in order; in the UI, leave out "
            "`BackfillPolicy.single_run()`."
        )
    return True


def starts_here(context: dg.InputContext, store: Store, table: Table) -> bool:
    """Whether nothing of the asset was committed before the partition that is being built: it starts from nothing."""
    step: Any = context.step_context
    ends = keys_of_run(step.dagster_run.tags)
    return ends is None or not any(str(key) < ends[0] for _, key in store.last_commits([table.asset]))


def no_rows(table: Table) -> Slice:
    """The rows of a table that is not there yet: none, with the columns of its contract, else the one it always has."""
    columns = [(name, "DATE") for name in table.partition_columns or ("batch_date",)]
    if table.contract_sql:
        with duckdb.connect(":memory:") as connection:
            connection.execute(table.contract_sql)
            columns = connection.execute(
                "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index",
                [table.name],
            ).fetchall()
    typed = ", ".join(f"CAST(NULL AS {kind}) AS {quote(name)}" for name, kind in columns)
    return Slice(f"SELECT {typed} WHERE false")


def any_column(rows: Any) -> Any:
    """A pandas frame without rows in which every column is there, and empty; anything else as it is.

    What an asset will hold is not known before its first rows, and its body has to name columns all the same.
    """
    import pandas as pd  # noqa: PLC0415  # Only for those who asked for a frame of pandas, who have loaded it.

    class NoRowsYet(pd.DataFrame):
        def __getitem__(self, key: Any) -> Any:
            missing = [name for name in (key if isinstance(key, list) else [key]) if name not in self.columns]
            if not missing or not all(isinstance(name, str) for name in missing):
                return super().__getitem__(key)
            return self.reindex(columns=[*self.columns, *missing])[key]

        @property
        def _constructor(self) -> Any:
            return pd.DataFrame

    return NoRowsYet(rows) if type(rows) is pd.DataFrame and not len(rows) else rows
