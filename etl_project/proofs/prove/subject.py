"""Subject: the day of an asset that is to be proven, what is rebuilt with it, and what it reads.

Belongs here: reading that off the definitions, and saying no to assets that cannot be rebuilt on the side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import NamedTuple

import dagster as dg
from dagster._core.definitions.partitions.utils import infer_partition_mapping

from etl_project import utc
from etl_project.failures import Permanent
from etl_project.proofs.verify.targets import Stored
from etl_project.sources import SOURCE_METADATA
from etl_project.storage import lineage

_REACHES_OUT = ("delivery",)
"""Resources whose effects leave the machine."""


class Unprovable(Permanent):
    """The asset or day cannot be rebuilt on the side. Retrying does not help."""


class Subject(NamedTuple):
    """What is proven. `outputs` are all that the asset's step writes; `reads` are its parents' partitions."""

    target: Stored
    day: date
    outputs: tuple[Stored, ...]
    reads: Mapping[str, tuple[str | None, ...]]
    sources: tuple[str, ...]

    @property
    def key(self) -> str:
        """The partition key of the day."""
        return self.day.isoformat()


def subject(definitions: dg.Definitions, targets: Iterable[Stored], asset: str, day: date) -> Subject:
    """The asset's day and what it takes. Raises Unprovable for what cannot be rebuilt on the side."""
    stored = {target.asset: target for target in targets}
    if asset not in stored:
        raise Unprovable(f"There is no stored asset {asset!r}; there are {', '.join(stored) or 'none'}.")
    _refuse_other_days(stored[asset], day)
    declared = declared_in(definitions)
    owner = declared[dg.AssetKey.from_user_string(asset)]
    reaching = sorted(set(_REACHES_OUT) & owner.required_resource_keys)
    if reaching:
        raise Unprovable(f"{asset} sends to the outside ({', '.join(reaching)}): a rebuild would not stay on the side.")
    specs = [spec for spec in owner.specs if not owner.can_subset or spec.key.to_user_string() == asset]
    return Subject(
        target=stored[asset],
        day=day,
        outputs=tuple(stored[spec.key.to_user_string()] for spec in specs if spec.key.to_user_string() in stored),
        reads=reads_of(specs, declared, day.isoformat()),
        sources=tuple(_sources(specs, declared)),
    )


def declared_in(definitions: dg.Definitions) -> dict[dg.AssetKey, dg.AssetsDefinition]:
    """Every asset of the definitions, with what defines it."""
    return {
        spec.key: owner
        for owner in definitions.assets or ()
        if isinstance(owner, dg.AssetsDefinition)
        for spec in owner.specs
    }


def _refuse_other_days(target: Stored, day: date) -> None:
    daily = target.partitions
    if not isinstance(daily, dg.DailyPartitionsDefinition):
        raise Unprovable(f"{target.asset} has no daily partitions: there is no day of it to rebuild.")
    first = utc.day_of(str(daily.get_first_partition_key()))
    if not first <= day <= utc.now().date():
        raise Unprovable(f"{target.asset} has days from {first} to today (UTC), not {day}.")


def reads_of(
    specs: Iterable[dg.AssetSpec], declared: Mapping[dg.AssetKey, dg.AssetsDefinition], key: str | None
) -> dict[str, tuple[str | None, ...]]:
    """The partitions of every parent that the partition maps to, as Dagster's partition mappings say."""
    reads: dict[str, set[str | None]] = {}
    for spec in specs:
        for dep in spec.deps:
            owner = declared.get(dep.asset_key)
            there = owner.specs_by_key[dep.asset_key].partitions_def if owner is not None else None
            keys: Iterable[str | None] = [None]
            if there is not None:
                mapping = infer_partition_mapping(dep.partition_mapping, spec.partitions_def, there)
                keys = lineage.through(mapping, key, spec.partitions_def, there)
            reads.setdefault(dep.asset_key.to_user_string(), set()).update(keys)
    return {asset: tuple(sorted(keys, key=str)) for asset, keys in reads.items()}


def _sources(specs: Iterable[dg.AssetSpec], declared: Mapping[dg.AssetKey, dg.AssetsDefinition]) -> Iterable[str]:
    """The sources whose archived files of the day are read."""
    for key in sorted({dep.asset_key for spec in specs for dep in spec.deps} & declared.keys()):
        source = declared[key].specs_by_key[key].metadata.get(SOURCE_METADATA)
        if source is not None:
            yield str(source)
