"""Targets: which assets have commit records, and where their rows are.

Belongs here: reading that off the definitions. Assets that return nothing, or are written by other IO managers, have no
commit records to compare with and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import dagster as dg

from etl_project.failures import Permanent
from etl_project.storage import PartitionIOManager, Scope, Store, Table, scope_of, stored_specs

TableOf = Callable[[dg.AssetSpec], Table]


class Unverifiable(Permanent):
    """What is asked for does not exist. Retrying does not help."""


class Stored(NamedTuple):
    """An asset whose partitions are replaced in one of our stores."""

    asset: str
    table: Table
    partitions: dg.PartitionsDefinition[Any] | None
    store: Store

    def scope(self, keys: Iterable[str | None]) -> Scope:
        """The partitions with these keys."""
        return scope_of(dg.AssetKey.from_user_string(self.asset), self.partitions, [str(key) for key in keys])

    def owns(self, key: str | None) -> bool:
        """Whether the asset, as it is defined now, has partitions of this kind: it may once have had others."""
        if self.partitions is None or key is None:
            return self.partitions is None and key is None
        try:
            self.scope([key])
        except ValueError:
            return False
        return True


def stored_assets(definitions: dg.Definitions, resources: Mapping[str, Any] | None = None) -> tuple[Stored, ...]:
    """Every asset that one of our IO managers writes, by name; the IO managers are among the `resources`.

    Without them, among the resources of the definitions.
    """
    stores = dict(_stores(resources if resources is not None else definitions.resources or {}))
    return tuple(sorted(_stored(definitions, stores), key=lambda stored: stored.asset))


def chosen(targets: Sequence[Stored], assets: Sequence[str]) -> tuple[Stored, ...]:
    """The targets of these names, all without names. Raises Unverifiable (retrying does not help) for others."""
    known = [target.asset for target in targets]
    unknown = sorted(set(assets) - set(known))
    if unknown:
        raise Unverifiable(
            f"There is no stored asset {', '.join(map(repr, unknown))}; there are {', '.join(known) or 'none'}."
        )
    return tuple(target for target in targets if not assets or target.asset in assets)


def _stores(resources: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Store, TableOf]]]:
    for key, resource in resources.items():
        if not isinstance(resource, PartitionIOManager):
            continue
        if not any(isinstance(value, dg.EnvVar) for value in vars(resource).values()):
            yield key, (resource.store(), resource.table)
            continue
        # Dagster looks environment variables up, in a set-up that makes an instance for it: slow, so only where needed.
        with resource.process_config_and_initialize_cm() as manager:
            yield key, (manager.store(), manager.table)


def _stored(definitions: dg.Definitions, stores: dict[str, tuple[Store, TableOf]]) -> Iterator[Stored]:
    for spec, manager in stored_specs(definitions):
        if manager in stores:
            store, table_of = stores[manager]
            yield Stored(spec.key.to_user_string(), table_of(spec), spec.partitions_def, store)
