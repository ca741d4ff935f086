"""What the writers that are IO managers share: an asset named `rows` is run for a day, or loaded as pandas."""

from __future__ import annotations

import dagster as dg
import pandas as pd


def run_asset(rows: dg.AssetsDefinition, manager: object, day: str) -> None:
    """The asset's run for this day, in this process, without any history."""
    instance = dg.DagsterInstance.ephemeral()
    dg.materialize([rows], partition_key=day, resources={"io_manager": manager}, instance=instance)


def run_range(rows: dg.AssetsDefinition, manager: object, first: str, last: str) -> None:
    """One run for all of these days, as a backfill in a single run makes it."""
    days = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    instance = dg.DagsterInstance.ephemeral()
    dg.materialize([rows], tags=days, resources={"io_manager": manager}, instance=instance)


def load_asset(rows: dg.AssetsDefinition, manager: object, day: str) -> pd.DataFrame:
    """The stored day, as a notebook gets it."""
    definitions = dg.Definitions([rows], resources={"io_manager": manager})
    found: pd.DataFrame = definitions.load_asset_value("rows", partition_key=day, python_type=pd.DataFrame)
    return found
