"""What this project's two IO managers are asked to keep: the same asset, in a project of five lines."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq

DAYS = dg.DailyPartitionsDefinition("1992-01-01")


def asset(file: Path | None = None) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=DAYS,
        metadata={"partition_expr": "batch_date"},
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def rows() -> object:
        return pq.read_table(file)

    return rows
