"""Declared: what definitions say about stored assets, judged when they are loaded.

Belongs here: finding the assets that our IO managers write, and refusing, before anything runs, what a run would have
to refuse: two assets with one table, a contract that cannot be kept, metadata and partitions that cannot be stored.
Only definitions are looked at; no store is opened.

Dagster asks each IO manager for its definition when it loads a code location, and then tables, contracts, metadata and
partitions are looked at. `checked` looks at the checks of an asset, too, that is published after them:

    defs = checked(dg.Definitions(assets=[...], resources={"io_manager": DuckDBPartitionIOManager(url="w.duckdb")}))
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import dagster as dg

from etl_project.storage.contract import Table
from etl_project.storage.dagster import internals, one_table
from etl_project.storage.dagster.scopes import AFTER_CHECKS, PUBLISH, UnsupportedAsset
from etl_project.storage.tables import contract_sql


@runtime_checkable
class Manager(Protocol):
    """What is asked of an IO manager of ours."""

    def table(self, spec: dg.AssetSpec) -> Table: ...
    def place_of(self, table: Table) -> Hashable: ...


def checked(definitions: dg.Definitions, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The definitions as they are; refused when one of their assets could not be stored.

    `resources`: where the IO managers are; those of the definitions by default.
    Raises UnsupportedAsset (retrying does not help) naming everything that has to change.
    """
    managers = _managers(resources if resources is not None else definitions.resources or {})
    specs = stored_specs(definitions)
    tables, problems = _tables(specs, managers)
    for key, (table, _) in tables.items():
        if table.publish_after_checks:
            problems += _without_checks(key, definitions)
    _refuse(problems + _contracts(tables) + _shared(tables))
    return definitions


def refuse_at_load(manager: Manager) -> None:
    """Refuse the definitions that Dagster is loading when one of their assets could not be stored.

    To be called where Dagster asks this IO manager for its definition. Of several, one says it for all. Outside of
    loading, and where Dagster does not say what else is defined, it does nothing. Neither does it for an asset whose
    body is annotated to return a MaterializeResult: most have no value, and never come to a write that would refuse it.
    Raises UnsupportedAsset (retrying does not help) naming everything that has to change.
    """
    loading = internals.definitions_being_loaded()
    managers = {} if loading is None else _managers(loading.resources)
    if loading is not None and manager is next(iter(managers.values()), None):
        storing = (one for one in _definitions(loading.assets) if not internals.says_only_metadata(one))
        tables, problems = _tables(one_table.stored_specs(storing), managers)
        hint = ["An asset whose body hands nothing to its IO manager says so: `-> None`."] if problems else []
        _refuse(problems + hint + _contracts(tables) + _shared(tables))


def _tables(
    specs: Iterable[tuple[dg.AssetSpec, str]], managers: Mapping[str, Manager]
) -> tuple[dict[dg.AssetKey, tuple[Table, Hashable]], list[str]]:
    """The table of each of these assets and where it lies, and what keeps others from having one."""
    found: dict[dg.AssetKey, tuple[Table, Hashable]] = {}
    problems: list[str] = []
    for spec, io_manager_key in specs:
        manager = managers.get(io_manager_key)
        if manager is None:
            continue
        try:
            table = manager.table(spec)
            found[spec.key] = table, manager.place_of(table)
        except UnsupportedAsset as error:
            problems.append(str(error))
    return found, problems


def _contracts(tables: Mapping[dg.AssetKey, tuple[Table, Hashable]]) -> list[str]:
    scripts = [(table.asset, table.contract_sql) for table, _ in tables.values() if table.contract_sql is not None]
    found = [(asset, problem) for asset, script in scripts if (problem := contract_sql.problem_of(script))]
    return [f"The contract of asset {asset!r} cannot be used: {problem}." for asset, problem in found]


def _shared(tables: Mapping[dg.AssetKey, tuple[Table, Hashable]]) -> list[str]:
    places: dict[Hashable, list[str]] = defaultdict(list)
    for table, place in tables.values():
        places[place].append(table.asset)
    return one_table.all_in_words(places)


def _refuse(problems: list[str]) -> None:
    if problems:
        raise UnsupportedAsset("\n".join(problems))


def _without_checks(asset: dg.AssetKey, definitions: dg.Definitions) -> Iterator[str]:
    """What is wrong with an asset that is published after its checks: it has none that could come before."""
    declared = list(_definitions(definitions.assets or ()))
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
    return one_table.stored_specs(_definitions(definitions.assets or ()))


def _definitions(assets: Any) -> Iterator[dg.AssetsDefinition]:
    return (one for one in _flat(assets) if isinstance(one, dg.AssetsDefinition))


def _flat(assets: Any) -> Iterator[Any]:
    for asset in assets:
        if isinstance(asset, list | tuple) and not isinstance(asset, dg.AssetSpec):  # A spec is a tuple, too.
            yield from _flat(asset)
        else:
            yield asset


def _managers(resources: Mapping[str, Any]) -> dict[str, Manager]:
    return {key: resource for key, resource in resources.items() if isinstance(resource, Manager)}
