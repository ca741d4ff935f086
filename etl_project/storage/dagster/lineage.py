"""Lineage: which upstream partitions an output partition is made of, as Dagster's partition mappings say.

Belongs here: walking from an output asset to its parents' partitions. It only asks definitions; what was really read
is in the receipts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from etl_project.storage.dagster import internals

Parent = tuple[str, str | None]


def parents_of(step_context: Any, asset_key: dg.AssetKey, keys: Sequence[str | None]) -> dict[str | None, list[Parent]]:
    """For each output partition, the (asset, partition) pairs that it maps to in all its parents."""
    layer = step_context.job_def.asset_layer
    parents: dict[str | None, list[Parent]] = {key: [] for key in keys}
    for parent in sorted(layer.get(asset_key).parent_keys):
        mapped = _mapped(step_context, asset_key, parent, keys)
        for key in keys:
            parents[key] += [(parent.to_user_string(), upstream) for upstream in mapped[key]]
    return parents


def reads_all(step_context: Any, parent: dg.AssetKey) -> bool:
    """Whether the step reads all partitions of the parent: all there are, for nothing says how many that should be."""
    layer = step_context.job_def.asset_layer
    there = layer.get(parent).partitions_def if layer.has(parent) else None
    if there is None:
        return False
    assets = step_context.assets_def
    here = {layer.get(key).partitions_def for key in assets.keys} if assets is not None else set()
    mappings = [internals.mapping_between(assets, parent, one, there) for one in here]
    return bool(mappings) and all(isinstance(mapping, dg.AllPartitionMapping) for mapping in mappings)


def _mapped(
    step_context: Any, asset_key: dg.AssetKey, parent: dg.AssetKey, keys: Sequence[str | None]
) -> Mapping[str | None, Sequence[str | None]]:
    """The parent's partitions for each key; None stands for the whole of an unpartitioned parent."""
    layer = step_context.job_def.asset_layer
    here = layer.get(asset_key).partitions_def
    there = layer.get(parent).partitions_def if layer.has(parent) else None
    if there is None:
        return {key: [None] for key in keys}
    mapping = internals.mapping_between(layer.get(asset_key).assets_def, parent, here, there)
    if here == there and _is_identity(mapping):
        return {key: [key] for key in keys}
    with internals.partitions_of_instance(step_context.instance):
        return {key: through(mapping, key, here, there) for key in keys}


def _is_identity(mapping: dg.PartitionMapping) -> bool:
    if isinstance(mapping, dg.TimeWindowPartitionMapping):
        return mapping.start_offset == 0 and mapping.end_offset == 0
    return isinstance(mapping, dg.IdentityPartitionMapping)


def through(mapping: dg.PartitionMapping, key: str | None, here: Any, there: Any) -> Sequence[str | None]:
    """The parent's partitions (of the definition `there`) that a partition `here` maps to."""
    subset = None if key is None else here.empty_subset().with_partition_keys([key])
    result = mapping.get_upstream_mapped_partitions_result_for_partitions(subset, here, there)
    return sorted(result.partitions_subset.get_partition_keys())
