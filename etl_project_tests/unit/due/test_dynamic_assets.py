"""A drain over assets with dynamic partitions: those that Dagster's instance knows at the moment, and no others."""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster_shared.check import CheckError

from etl_project import utc
from etl_project.due.snapshot import look, outlook
from etl_project_tests.unit.due.own_assets import DAYS, World, amounts_of, copy, world

SHOPS = dg.DynamicPartitionsDefinition(name="shops")
SHOP_DAYS = dg.MultiPartitionsDefinition({"date": DAYS, "shop": SHOPS})
ALL = dg.AssetIn(partition_mapping=dg.AllPartitionMapping())
MARCH_1 = "2025-03-01"


def open_shops(found: World, *names: str) -> None:
    found.deployment.instance.add_dynamic_partitions("shops", list(names))


def drained(found: World) -> list[tuple[str, tuple[str, ...]]]:
    done = found.drain()
    assert done.all_well, (done.failed, done.gave_up, done.red)
    return [(str(one.first), one.assets) for one in done.succeeded]


def shop_assets(prices: dict[str, int]) -> list[Any]:
    @dg.asset(partitions_def=SHOPS, metadata={"partition_column": "shop"}, deps=["tariff"])
    def price(context: dg.AssetExecutionContext) -> pd.DataFrame:
        shop = context.partition_key
        return pd.DataFrame({"shop": [shop], "price": [prices.get(shop, 1)]})

    @dg.asset(partitions_def=SHOPS, metadata={"partition_column": "shop"})
    def doubled(price: pd.DataFrame) -> pd.DataFrame:
        return price.assign(price=price["price"] * 2)

    @dg.asset
    def tariff() -> pd.DataFrame:
        return pd.DataFrame({"version": [len(prices)]})

    @dg.asset(ins={"doubled": ALL})
    def total(doubled: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"total": [int(doubled["price"].sum())]})

    return [tariff, price, doubled, total]


def test_a_shop_that_opens_is_built_with_all_that_hangs_on_it_and_one_that_closes_is_asked_for_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = {"Ann's": 5}
    with world(tmp_path, monkeypatch, shop_assets(prices)) as found:
        assert drained(found) == [], "no shop has opened yet"
        assert found.build("tariff", "")
        open_shops(found, "Ann's", "Bö/b")
        built = drained(found)
        assert sorted(built) == [("", ("total",)), ("Ann's", ("price", "doubled")), ("Bö/b", ("price", "doubled"))]
        assert found.query("select total from total") == [(12,)]
        assert drained(found) == [], "nothing has changed"
        open_shops(found, "2025-03-20")
        assert ("2025-03-20", ("price", "doubled")) in drained(found)
        assert found.query("select total from total") == [(14,)]

        found.deployment.instance.delete_dynamic_partition("shops", "Bö/b")
        assert drained(found) == [("", ("total",))], "all shops there are, are others"
        assert found.query("select total from total") == [(12,)]
        prices["2025-03-20"] = 50
        assert found.build("tariff", "")
        assert "Bö/b" not in {key for key, _ in drained(found)}
        assert found.query("select total from total") == [(110,)]
        assert drained(found) == [] and found.waits() == []


def test_a_day_of_every_shop_is_asked_for_and_again_when_its_day_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}

    @dg.asset(partitions_def=SHOP_DAYS)
    def sold(context: dg.AssetExecutionContext, moves: pd.DataFrame) -> pd.DataFrame:
        key = context.partition_key
        assert isinstance(key, dg.MultiPartitionKey)
        shop = key.keys_by_dimension["shop"]
        return pd.DataFrame({"batch_date": moves["batch_date"], "shop": shop, "n": moves["amount"]})

    with world(tmp_path, monkeypatch, [amounts_of(made), sold, copy("day")]) as found:
        made["world"] = found
        open_shops(found, "north")
        found.build("moves", MARCH_1)
        assert (f"{MARCH_1}|north", ("sold",)) in drained(found)
        open_shops(found, "south", "no|rth")  # Dagster's own separator: it lists no partition of it, and says nothing.
        done = found.drain()
        assert [str(one.first) for one in done.succeeded] == [f"{MARCH_1}|south"]
        [said] = done.passed_over
        assert said.startswith("sold: nothing is built for 'no|rth', a key of the dynamic partitions 'shops'")
        assert not done.all_well, "the exit code says it, too"
        found.deployment.instance.delete_dynamic_partition("shops", "no|rth")
        found.amounts[MARCH_1] = 7
        found.build("moves", MARCH_1)
        assert sorted(drained(found))[1:] == [(f"{MARCH_1}|north", ("sold",)), (f"{MARCH_1}|south", ("sold",))]
        assert found.query("select shop, n from sold order by shop") == [("north", 7), ("south", 7)]
        assert drained(found) == []


def test_a_look_without_an_instance_does_not_pass_over_dynamic_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(tmp_path, monkeypatch, shop_assets({})) as found:
        snapshot = look(found.deployment.project, utc.now())
        with pytest.raises(CheckError, match="instance is not available"):
            outlook(found.deployment.project, snapshot)
