"""What `etl prove` copies is what the day reads, as the definitions say; what cannot be kept on the side is refused."""

# No `from __future__ import annotations` here: Dagster reads annotations as they stand.

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_project.declare.daily_table import daily
from etl_project.proofs.prove.subject import Subject, Unprovable, subject
from etl_project.proofs.verify.targets import stored_assets
from etl_project.sources.assets import SOURCE_METADATA
from etl_project.storage import DuckDBPartitionIOManager
from etl_project_tests import steady

DAILY = daily(date(2024, 1, 1))
DAY = date(2024, 1, 10)


def looked_at(assets: list[Any], asset: str, folder: Path, day: date = DAY) -> Subject:
    resources = {"io_manager": DuckDBPartitionIOManager(url=str(folder / "w.duckdb"))}
    definitions = dg.Definitions(assets=assets)
    return subject(definitions, stored_assets(definitions, resources), asset, day)


@dg.asset(partitions_def=DAILY)
def up() -> int:
    return 1


@dg.asset(partitions_def=DAILY, metadata={SOURCE_METADATA: "shop"})
def shop_files() -> None: ...


def test_the_same_day_of_every_parent_is_read_and_the_source_of_its_files(tmp_path: Path) -> None:
    @dg.asset(partitions_def=DAILY, deps=[up, shop_files])
    def down() -> int:
        return 1

    found = looked_at([up, shop_files, down], "down", tmp_path)
    assert found.reads == {"up": ("2024-01-10",), "shop_files": ("2024-01-10",)} and found.sources == ("shop",)
    assert [target.asset for target in found.outputs] == ["down"]


def test_a_window_of_days_is_read_in_full(tmp_path: Path) -> None:
    @dg.asset(
        partitions_def=DAILY,
        ins={"up": dg.AssetIn(partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-2))},
    )
    def down(up: Any) -> int:
        return 1

    @dg.asset
    def everything() -> int:
        return 1

    @dg.asset(partitions_def=DAILY, deps=[dg.AssetDep("down", partition_mapping=dg.LastPartitionMapping()), everything])
    def last() -> int:
        return 1

    found = looked_at([up, down], "down", tmp_path)
    assert found.reads == {"up": ("2024-01-08", "2024-01-09", "2024-01-10")}
    first = looked_at([up, down], "down", tmp_path, date(2024, 1, 1))
    assert first.reads == {"up": ("2024-01-01",)}
    today = steady.today().isoformat()
    assert looked_at([up, down, everything, last], "last", tmp_path).reads == {"down": (today,), "everything": (None,)}


def test_an_asset_that_reads_its_own_day_before_gets_it(tmp_path: Path) -> None:
    mapping = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)

    @dg.asset(partitions_def=DAILY, deps=[dg.AssetDep("balance", partition_mapping=mapping)])
    def balance() -> int:
        return 1

    assert looked_at([balance], "balance", tmp_path).reads == {"balance": ("2024-01-09",)}


def test_a_step_that_writes_several_assets_is_rebuilt_as_a_whole_unless_it_can_be_split(tmp_path: Path) -> None:
    outs = {"one": dg.AssetOut(is_required=False), "two": dg.AssetOut(is_required=False)}

    @dg.multi_asset(outs=outs, partitions_def=DAILY)
    def both(): ...

    @dg.multi_asset(outs=outs, partitions_def=DAILY, can_subset=True)
    def either(): ...

    assert [target.asset for target in looked_at([both], "two", tmp_path).outputs] == ["one", "two"]
    assert [target.asset for target in looked_at([either], "two", tmp_path).outputs] == ["two"]


def test_what_cannot_be_rebuilt_on_the_side_is_refused(tmp_path: Path) -> None:
    @dg.asset(partitions_def=DAILY, required_resource_keys={"delivery"})
    def posted() -> int:
        return 1

    @dg.asset
    def whole() -> int:
        return 1

    for assets, name, day, says in (
        ([posted], "posted", DAY, "sends to the outside"),
        ([whole], "whole", DAY, "no daily partitions"),
        ([up], "nothing", DAY, "There is no stored asset 'nothing'; there are up"),
        ([shop_files], "shop_files", DAY, "there are none"),
        ([up], "up", date(2023, 12, 31), "has days from 2024-01-01 to today"),
        ([up], "up", steady.today() + timedelta(days=2), "to today"),
    ):
        with pytest.raises(Unprovable, match=says):
            looked_at(assets, name, tmp_path, day)
