"""One table, one asset: assets of one IO manager that would replace each other's rows are refused before a run begins.

Belongs here: which assets of a run's job and of its code location have one table. `declared` says the same when
definitions are loaded, and of several IO managers; this is for IO managers that are configured when a run is launched,
and for versions of Dagster that do not say what they load. The database says it of whatever else wrote there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

import dagster as dg

from etl_project.storage.contract import Table
from etl_project.storage.dagster import internals
from etl_project.storage.dagster.reporting import reported
from etl_project.storage.dagster.scopes import UnsupportedAsset


def refuse_shared(
    context: dg.InitResourceContext,
    table_of: Callable[[dg.AssetSpec], Table],
    place_of: Callable[[Table], Hashable],
) -> None:
    """Fail a run before its first step when one of its assets shares its table with another asset.

    `context` is that of the IO manager, which says what the table of an asset is and where it lies. Outside of a run,
    and where Dagster does not say what else is defined, it does nothing.
    Raises UnsupportedAsset (retrying does not help) as a Dagster failure, naming both assets.
    """
    run, instance = context.run, context.instance
    found = internals.definitions_of_run() if run is not None and instance is not None else None
    if found is None or run is None or instance is None:
        return
    own_keys = {key for key, one in context.all_resource_defs.items() if one is context.resource_def}
    places: dict[Hashable, list[str]] = defaultdict(list)
    for spec, key in stored_specs(found.assets):
        if key not in own_keys:
            continue
        try:
            table = table_of(spec)
        except UnsupportedAsset:
            continue  # Its own write says why, if ever it comes to one.
        places[place_of(table)].append(table.asset)
    selected = {key.to_user_string() for key in found.selected}
    shared = all_in_words({place: assets for place, assets in places.items() if selected & {*assets}})
    if shared:
        with reported(instance, run.run_id):
            raise UnsupportedAsset("\n".join(shared))


def stored_specs(assets: Iterable[dg.AssetsDefinition]) -> Iterator[tuple[dg.AssetSpec, str]]:
    """Every asset whose body returns something for an IO manager, with the key of that IO manager.

    Of a multi-asset that a run takes only a part of, Dagster has the specs of all and the outputs of the part.
    """
    for declared in assets:
        if not declared.is_executable:
            continue
        for spec in declared.specs:
            if spec.key not in declared.keys:
                continue
            output = declared.node_def.output_def_named(declared.get_output_name_for_asset_key(spec.key))
            if not output.dagster_type.is_nothing:
                yield spec, declared.get_io_manager_key_for_asset_key(spec.key)


def all_in_words(places: Mapping[Hashable, Sequence[str]]) -> list[str]:
    """A sentence for every place that several assets have."""
    return [_in_words(assets) for assets in places.values() if len(assets) > 1]


def _in_words(assets: Sequence[str]) -> str:
    """That these assets have one table, and what to do."""
    return (
        f"The assets {', '.join(map(repr, sorted(assets)))} have one table (upper and lower case make no difference): "
        "building one would replace the rows of another. Nothing was changed. Retrying does not help. Give each a "
        "table of its own by the metadata 'schema' or 'table', or by its name."
    )
