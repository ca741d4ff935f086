"""Declared: what definitions say about stored assets, judged when they are loaded.

Belongs here: finding the assets that our IO managers write, and refusing, before anything runs, what a run would have
to refuse: two assets with one table, a contract that cannot be kept, metadata and partitions that cannot be stored.
Only definitions are looked at; no store is opened.

    defs = checked(dg.Definitions(assets=[...], resources={"io_manager": DuckDBPartitionIOManager(url="w.duckdb")}))
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import dagster as dg

from etl_project.storage.dagster import one_table
from etl_project.storage.dagster.io_manager import PartitionIOManager
from etl_project.storage.dagster.scopes import AFTER_CHECKS, PUBLISH, UnsupportedAsset
from etl_project.storage.tables import contract_sql


def checked(definitions: dg.Definitions, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The definitions as they are; refused when one of their assets could not be stored.

    `resources`: where the IO managers are; those of the definitions by default.
    Raises UnsupportedAsset (retrying does not help) naming everything that has to change.
    """
    managers = dict(_managers(definitions, resources))
    problems: list[str] = []
    places: dict[Hashable, list[str]] = defaultdict(list)
    for spec, io_manager_key in stored_specs(definitions):
        manager = managers.get(io_manager_key)
        if manager is None:
            continue
        try:
            table = manager.table(spec)
        except UnsupportedAsset as error:
            problems.append(str(error))
            continue
        if table.publish_after_checks:
            problems += _without_checks(spec.key, definitions)
        if table.contract_sql is not None and (problem := contract_sql.problem_of(table.contract_sql)):
            problems.append(f"The contract of asset {table.asset!r} cannot be used: {problem}.")
        places[manager.place_of(table)].append(table.asset)
    problems += one_table.all_in_words(places)
    if problems:
        raise UnsupportedAsset("\n".join(problems))
    return definitions


def _without_checks(asset: dg.AssetKey, definitions: dg.Definitions) -> Iterator[str]:
    """What is wrong with an asset that is published after its checks: it has none that could come before."""
    declared = [one for one in _flat(definitions.assets or ()) if isinstance(one, dg.AssetsDefinition)]
    own = [one for one in declared if asset in one.keys]
    others = [*(definitions.asset_checks or ()), *(one for one in declared if asset not in one.keys)]
    inside, outside = (
        [spec.name for one in some for spec in one.check_specs if spec.blocking and spec.asset_key == asset]
        for some in (own, others)
    )
    says = f"Asset {asset.to_user_string()!r} says {PUBLISH}: {AFTER_CHECKS}"
    if not outside:
        yield (
            f"{says} and has no blocking check of its own step. Give it one: `blocking: true` at a check in defs.yaml, "
            "or @dg.asset_check(asset=..., blocking=True)."
        )
    if inside:
        yield (
            f"{says}, but its own body makes the blocking checks {', '.join(inside)}, before anybody can look at the "
            "stored rows. Make them checks by @dg.asset_check(asset=..., blocking=True)."
        )


def stored_specs(definitions: dg.Definitions) -> Iterator[tuple[dg.AssetSpec, str]]:
    """Every asset whose body returns something for an IO manager, with the key of that IO manager."""
    declared = (one for one in _flat(definitions.assets or ()) if isinstance(one, dg.AssetsDefinition))
    return one_table.stored_specs(declared)


def _flat(assets: Any) -> Iterator[Any]:
    for asset in assets:
        if isinstance(asset, list | tuple) and not isinstance(asset, dg.AssetSpec):  # A spec is a tuple, too.
            yield from _flat(asset)
        else:
            yield asset


def _managers(
    definitions: dg.Definitions, resources: Mapping[str, Any] | None
) -> Iterator[tuple[str, PartitionIOManager]]:
    for key, resource in (resources if resources is not None else definitions.resources or {}).items():
        if isinstance(resource, PartitionIOManager):
            yield key, resource
