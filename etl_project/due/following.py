"""Following: the assets of Dagster's definitions as the nodes that `pending` looks at, and what it cannot follow.

Belongs here: which partitions an asset has, which upstreams it reads and how, its blocking checks, and the reason why
an asset is built by hand only. What a mapping or a set of partitions is made of stands in `readings`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import dagster as dg
from dagster._core.definitions.partitions.utils import infer_partition_mapping

from etl_project.due.graph import SAME_DAY, Days, Node, Reading, Window
from etl_project.due.jobs import jobs_of
from etl_project.due.readings import Constant, Definition, Dimension, OneByOne, Overlapping, is_dynamic, key_set
from etl_project.sources import SOURCE_METADATA
from etl_project.storage import ABSENT_PARTITIONS, dimensions_of, table_of

FOLLOWS_METADATA = "etl/follows_inputs"
"""Asset metadata: False keeps an asset out of `pending()`; it is then rebuilt by hand only."""

MOST_KEYS_ONE_BY_ONE = 5_000
"""Such mappings cost half a millisecond a key, in every look. How many dynamic ones there will be, nobody knows."""

CONSTANT = (dg.AllPartitionMapping, dg.LastPartitionMapping, dg.SpecificPartitionsPartitionMapping)

_log = logging.getLogger(__name__)


class NotFollowed(Exception):
    """Why an asset cannot be followed; the text is for a person."""


@dataclass(frozen=True)
class _Declared:
    spec: dg.AssetSpec
    within: dg.AssetsDefinition

    @property
    def source(self) -> str | None:
        found: str | None = self.spec.metadata.get(SOURCE_METADATA)
        return found

    @property
    def leaves_records(self) -> bool:
        """Whether an IO manager writes the asset, and so can leave commit records."""
        if not self.within.is_executable:
            return False
        output = self.within.node_def.output_def_named(self.within.get_output_name_for_asset_key(self.spec.key))
        return self.source is not None or not output.dagster_type.is_nothing

    def absent(self, upstream: dg.AssetKey) -> bool:
        """Whether partitions of this input may be absent."""
        names = {key: name for name, key in self.within.keys_by_input_name.items()}
        metadata = self.within.op.ins[names[upstream]].metadata or {} if upstream in names else {}
        return metadata.get(ABSENT_PARTITIONS) == "allowed"


def nodes(definitions: dg.Definitions, begin_with_data: date | None = None) -> tuple[Node, ...]:
    """Every asset of the definitions that leaves commit records or takes files in, and what it reads of the others.

    Days that begin on `begin_with_data` begin where the data does: with an earlier file, on an earlier day.
    """
    declared = {
        spec.key: _Declared(spec, within)
        for within in definitions.assets or ()
        if isinstance(within, dg.AssetsDefinition)
        for spec in within.specs
    }
    blocking = _blocking_checks(definitions)
    jobs = {key: job for job, keys in jobs_of(one.spec for one in declared.values()).items() for key in keys}
    found = (
        replace(_node(one, declared), blocking=tuple(blocking.get(key, ())), job=jobs[key])
        for key, one in sorted(declared.items())
        if one.leaves_records
    )
    return tuple(
        replace(node, keys=replace(node.keys, first=date.min))
        if isinstance(node.keys, Days) and node.keys.first == begin_with_data
        else node
        for node in found
    )


def asset_specs(definitions: dg.Definitions) -> list[dg.AssetSpec]:
    """Every asset that the definitions can build."""
    within = (one for one in definitions.assets or () if isinstance(one, dg.AssetsDefinition) and one.is_executable)
    return [spec for one in within for spec in one.specs]


def _blocking_checks(definitions: dg.Definitions) -> Mapping[dg.AssetKey, list[str]]:
    """The names of the blocking checks of each asset."""
    found: dict[dg.AssetKey, list[str]] = {}
    within = [one for one in definitions.assets or () if isinstance(one, dg.AssetsDefinition)]
    for checks in (*(definitions.asset_checks or ()), *within):
        for spec in checks.check_specs:
            if spec.blocking:
                found.setdefault(spec.asset_key, []).append(spec.name)
    return found


def say_by_hand(nodes: tuple[Node, ...]) -> None:
    """Warn of what cannot be followed, when the project is loaded; a line each."""
    for line in by_hand(nodes):
        _log.warning(line)


def by_hand(nodes: tuple[Node, ...]) -> Iterator[str]:
    """A line for each asset that nothing asks for although it reads something, and for each input that nobody sees."""
    for node in nodes:
        if node.by_hand:
            yield f"{node.asset} is built by hand only: {node.by_hand}."
        if node.unseen and not node.by_hand:
            what = ", ".join(node.unseen)
            yield f"{node.asset} does not follow {what}: it leaves no commit records, so nobody sees when it changes."


def _node(one: _Declared, declared: Mapping[dg.AssetKey, _Declared]) -> Node:
    """The asset with everything it reads; where something cannot be followed, without it and with the reason."""
    spec = one.spec
    read = {dep.asset_key for dep in spec.deps}
    seen = {key for key in read - {spec.key} if key in declared and declared[key].leaves_records}
    unseen = tuple(sorted(key.to_user_string() for key in read - seen - {spec.key}))
    wanted = bool(spec.metadata.get(FOLLOWS_METADATA, True))
    found: dict[dg.AssetKey, Window | Reading] = {}
    why, itself = "", None
    try:
        found = {key: _reading(one, declared[key].spec) for key in sorted(seen)}
        itself = _of_itself(one) if spec.key in read else None
    except NotFollowed as reason:
        why = str(reason)
    if not why and unseen and not seen and itself is None:
        why = f"it reads {', '.join(unseen)} alone, and that leaves no commit records"
    policy, table = one.within.backfill_policy, table_of(spec.key, spec.metadata, None)
    return Node(
        asset=spec.key.to_user_string(),
        upstream=tuple(sorted(key.to_user_string() for key in found)),
        source=one.source,
        follows_inputs=wanted and not why,
        code_version=spec.code_version or "",
        windows={k.to_user_string(): r for k, r in found.items() if isinstance(r, Window) and r != SAME_DAY},
        keys=key_set(spec.partitions_def),
        readings={k.to_user_string(): r for k, r in found.items() if not isinstance(r, Window)},
        itself=itself,
        most_keys_a_run=1 if itself or policy is None else policy.max_partitions_per_run,
        by_hand=why if wanted else "",
        unseen=unseen,
        table=table.name,
        published_after_checks=table.publish_after_checks,
        dimensions=dimensions_of(spec.partitions_def),
    )


def _of_itself(one: _Declared) -> Window | Reading:
    """How an asset reads its own partitions: it has to be earlier ones, so that there is an order to build them in."""
    reading = _reading(one, one.spec)
    if isinstance(reading, Window | Overlapping) and reading.last < 0:
        return reading
    raise NotFollowed("it reads itself, and not only its own earlier partitions")


def _reading(one: _Declared, upstream: dg.AssetSpec) -> Window | Reading:
    """Which partitions of the upstream each partition reads. Raises NotFollowed where no look can tell."""
    here, there = one.spec.partitions_def, upstream.partitions_def
    mapping = infer_partition_mapping(one.within.get_partition_mapping_for_dep(upstream.key), here, there)
    absent = one.absent(upstream.key)
    try:
        if there is not None:
            mapping.validate_partition_mapping(there, here)
        return _followed(mapping, here, there, absent)
    except (dg.DagsterError, ValueError, NotImplementedError) as reason:
        raise NotFollowed(f"how it reads {upstream.key.to_user_string()} cannot be followed: {reason}") from reason


def _followed(
    mapping: dg.PartitionMapping, here: Definition | None, there: Definition | None, absent: bool
) -> Window | Reading:
    keys, upstream = key_set(here), key_set(there)
    if there is None or here is None or isinstance(mapping, CONSTANT):
        # All of an asset is all there is of it: nothing says how much that should be.
        absent = absent or (there is not None and isinstance(mapping, dg.AllPartitionMapping))
        return SAME_DAY if there is None and here is None else Constant(mapping, here, there, absent)
    if isinstance(mapping, dg.TimeWindowPartitionMapping):
        return _windows(mapping, here, there, absent)
    if isinstance(mapping, dg.IdentityPartitionMapping) and type(keys) is type(upstream):
        return Window(may_be_absent=True) if absent else SAME_DAY
    if isinstance(mapping, dg.MultiToSingleDimensionPartitionMapping):
        dimension = _dimension(mapping, here, there, absent)
        if dimension is not None:
            return dimension
    count = 0 if is_dynamic(here) else len(list(here.get_partition_keys()))
    if count > MOST_KEYS_ONE_BY_ONE:
        raise NotFollowed(
            f"its {type(mapping).__name__} has to be asked for each of {count} partitions; "
            f"up to {MOST_KEYS_ONE_BY_ONE} are"
        )
    return OneByOne(mapping, here, there, absent)


def _windows(mapping: dg.TimeWindowPartitionMapping, here: Any, there: Any, absent: bool) -> Window | Reading:
    first, last, any_day = mapping.start_offset, mapping.end_offset, mapping.allow_nonexistent_upstream_partitions
    if isinstance(key_set(here), Days) and isinstance(key_set(there), Days):
        same = (first, last, absent, any_day) == (0, 0, False, False)
        return SAME_DAY if same else Window(first, last, absent, any_day)
    if here == there and first == last == 0:
        return Window(may_be_absent=True) if absent else SAME_DAY
    return Overlapping(here, there, first, last, absent, any_day)


def _dimension(mapping: Any, here: Definition, there: Definition, absent: bool) -> Dimension | None:
    """The dimension that the other side has alone; None where it is none of them as it stands."""
    downwards = isinstance(here, dg.MultiPartitionsDefinition)
    multi, single = (here, there) if downwards else (there, here)
    if not isinstance(multi, dg.MultiPartitionsDefinition):
        return None
    named = mapping.partition_dimension_name
    matching = [one.name for one in multi.partitions_defs if one.partitions_def == single and named in (None, one.name)]
    return Dimension(multi, matching[0], single, downwards, absent) if len(matching) == 1 else None
