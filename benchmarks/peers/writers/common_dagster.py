"""What the writers that are IO managers share: an asset named `rows` by day, run for a day or loaded as pandas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pandas as pd


def asset(read: Callable[[Path], object], file: Path | None = None, kind: type = pd.DataFrame) -> dg.AssetsDefinition:
    """The asset, whose rows are what `read` makes of this file; without one it is only there to be loaded."""

    def rows() -> object:
        assert file is not None
        return read(file)

    rows.__annotations__["return"] = kind
    by_day = dg.asset(
        partitions_def=dg.DailyPartitionsDefinition("1992-01-01"),
        metadata={"partition_expr": "batch_date"},
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    return by_day(rows)


def run_asset(rows: dg.AssetsDefinition, manager: object, day: str) -> None:
    """The asset's run for this day, in this process, without any history."""
    instance = dg.DagsterInstance.ephemeral()
    dg.materialize([rows], partition_key=day, resources={"io_manager": manager}, instance=instance)


def run_range(rows: dg.AssetsDefinition, manager: object, first: str, last: str) -> None:
    """One run for all of these days, as a backfill in a single run makes it."""
    days = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    instance = dg.DagsterInstance.ephemeral()
    dg.materialize([rows], tags=days, resources={"io_manager": manager}, instance=instance)


def load_asset(rows: dg.AssetsDefinition, manager: object, day: str, kind: type = pd.DataFrame) -> object:
    """The stored day, as a notebook gets it."""
    definitions = dg.Definitions([rows], resources={"io_manager": manager})
    return definitions.load_asset_value("rows", partition_key=day, python_type=kind)
