"""Scopes: an asset's Dagster partitions and metadata in the words of the storage contract.

Belongs here: turning partition definitions and keys into partitions with bounds, and asset metadata into a table.
Pure functions over Dagster's definitions; no store, no run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import dagster as dg

from etl_project.failures import Permanent
from etl_project.settings import MOST_VERSIONS, versions_kept
from etl_project.storage.contract import Dimension, Partition, Scope, Table
from etl_project.utc import ONE_DAY, day_of

DEFAULT_PARTITION_COLUMN = "batch_date"

PUBLISH, AFTER_CHECKS = "publish", "after_checks"
"""Asset metadata: new rows reach readers only once the asset's blocking checks have passed on them."""


class UnsupportedAsset(Permanent):
    """The asset is partitioned or described in a way that cannot be stored. Retrying does not help."""


def scope_of(asset_key: dg.AssetKey, partitions: dg.PartitionsDefinition[Any] | None, keys: Iterable[str]) -> Scope:
    """The scope of these partition keys; the whole table when the asset has no partitions.

    A daily partition of UTC owns its calendar day; any other time window owns the instants from its start to its end
    in the definition's own time zone, over clock changes too; a static key owns its own value.
    A key of several dimensions is one value, made of theirs.
    """
    if partitions is None:
        return Scope.whole()
    if not isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        return Scope.keys(sorted(map(str, keys)))
    to_partition = _calendar_day if _is_daily_utc(partitions) else _window_of(partitions)
    return Scope(tuple(sorted((to_partition(key) for key in keys), key=_start)))


def scope_named(key: str) -> Scope:
    """The scope of a key of which nobody says what it is one of: a UTC day where it reads as one, else a static key."""
    try:
        return Scope((_calendar_day(key),))
    except ValueError:
        return Scope.keys([key])


def table_of(
    asset_key: dg.AssetKey,
    metadata: Mapping[str, Any],
    schema: str | None,
    partitions: dg.PartitionsDefinition[Any] | None = None,
    keep_versions: int = 0,
    keep_versions_days: int | None = None,
) -> Table:
    """The table of an asset, by its metadata: `partition_column`, `contract_sql`, `drift`, `partition_expression`,
    `partition_columns`, `max_removed_ratio`, `keep_versions`, `schema`, `table`,
    `renamed_from`, `columns_of_data`, `publish`.

    Its schema is the metadata's, else `schema` (the IO manager's), else the last part of the key's prefix, as in
    Dagster's own IO managers. `keep_versions` holds where the metadata says nothing.
    Raises UnsupportedAsset when a value cannot be used, naming all of them.
    """
    values = {name: getattr(value, "value", value) for name, value in metadata.items()}
    _refuse_unusable(asset_key, values)
    ratio = values.get("max_removed_ratio")
    kept, kept_days = versions_kept(values.get("keep_versions")) or (keep_versions, keep_versions_days)
    named = values.get("schema") or schema
    several = isinstance(partitions, dg.MultiPartitionsDefinition)
    dimensions = _dimensions(asset_key, partitions, values) if several else ()  # type: ignore[arg-type]
    prefix = asset_key.path[-2] if len(asset_key.path) > 1 else None
    return Table(
        asset=asset_key.to_user_string(),
        name=values.get("table") or asset_key.path[-1],
        schema=named or prefix,
        partition_column="|".join(d.column for d in dimensions)
        or values.get("partition_column")
        or DEFAULT_PARTITION_COLUMN,
        contract_sql=values.get("contract_sql"),
        drift=values.get("drift") or "evolve",
        partition_expression=values.get("partition_expression"),
        max_removed_ratio=None if ratio is None else float(ratio),
        schema_from_prefix=not named and prefix is not None,
        renamed_from=values.get("renamed_from"),
        dimensions=dimensions,
        max_changed_ratio=None if values.get("max_changed_ratio") is None else float(values["max_changed_ratio"]),
        max_sum_change=tuple((values.get("max_sum_change") or {}).items()),
        keep_versions=kept,
        keep_versions_days=kept_days,
        columns_of_data=values.get("columns_of_data") is True,
        publish_after_checks=values.get(PUBLISH) == AFTER_CHECKS,
    )


def dimensions_of(partitions: dg.PartitionsDefinition[Any] | None) -> tuple[str, ...]:
    """The names of the dimensions, where the partitions have several."""
    several = isinstance(partitions, dg.MultiPartitionsDefinition)
    return tuple(dimension.name for dimension in partitions.partitions_defs) if several else ()  # type: ignore[union-attr]


def _dimensions(
    asset_key: dg.AssetKey, partitions: dg.MultiPartitionsDefinition, values: Mapping[str, Any]
) -> tuple[Dimension, ...]:
    """The column of each dimension, in the order of a key's parts: metadata `partition_columns`, by dimension, says it.

    Else a day's is the partition column, and every other one is called like its dimension. Raises UnsupportedAsset.
    """
    named = values.get("partition_columns") or {}
    found, problems = [], []
    for dimension in partitions.partitions_defs:
        inner = dimension.partitions_def
        is_time = isinstance(inner, dg.TimeWindowPartitionsDefinition)
        if isinstance(inner, dg.TimeWindowPartitionsDefinition) and not _is_daily_utc(inner):
            problems.append(f"dimension {dimension.name!r} is a span of time other than a UTC day")
        default = values.get("partition_column") or DEFAULT_PARTITION_COLUMN if is_time else dimension.name
        found.append(Dimension(str(named.get(dimension.name) or default), is_time))
    unknown = set(named) - {dimension.name for dimension in partitions.partitions_defs}
    problems += [f"partition_columns names {name!r}, which is no dimension" for name in sorted(unknown)]
    if len({dimension.column.lower() for dimension in found}) < len(found):
        problems.append("two dimensions have one column")
    if problems:
        raise UnsupportedAsset(
            f"The partitions of asset {asset_key.to_user_string()!r} cannot be stored: {'; '.join(problems)}. Retrying "
            "does not help. Give it dimensions of days in UTC and of fixed keys, each with its column in the metadata "
            "'partition_columns', like {'date': 'batch_date', 'region': 'region'}."
        )
    return tuple(found)


def _refuse_unusable(asset_key: dg.AssetKey, values: Mapping[str, Any]) -> None:
    problems = [
        f"{name} is {values[name]!r}, not a text"
        for name in ("table", "schema", "partition_column", "contract_sql", "partition_expression", "renamed_from")
        if values.get(name) is not None and not isinstance(values[name], str)
    ]
    if values.get("drift") not in (None, "evolve", "freeze"):
        problems.append(f"drift is {values['drift']!r}, not 'evolve' or 'freeze'")
    if not isinstance(values.get("partition_columns") or {}, Mapping):
        problems.append(f"partition_columns is {values['partition_columns']!r}, not a column for each dimension")
    for name in ("max_removed_ratio", "max_changed_ratio"):
        ratio = values.get(name)
        if ratio is not None and not (isinstance(ratio, int | float) and 0 <= ratio <= 1):
            problems.append(f"{name} is {ratio!r}, not a number from 0 to 1")
    sums = values.get("max_sum_change")
    if sums is not None and not _are_limits(sums):
        problems.append(f"max_sum_change is {sums!r}, not a limit for each column, like {{'amount': 0.2}}")
    if values.get(PUBLISH) not in (None, AFTER_CHECKS):
        problems.append(f"{PUBLISH} is {values[PUBLISH]!r}; the one thing to say is {PUBLISH}: {AFTER_CHECKS}")
    kept = values.get("keep_versions")
    if kept is not None and versions_kept(kept) is None:
        problems.append(
            f"keep_versions is {kept!r}, not a number from 0 to {MOST_VERSIONS}, like 3, or an age, like 30d"
        )
    if problems:
        raise UnsupportedAsset(
            f"The metadata of asset {asset_key.to_user_string()!r} cannot be used: {'; '.join(problems)}. "
            "Retrying does not help. Correct the asset's metadata."
        )


def _are_limits(sums: Any) -> bool:
    return isinstance(sums, Mapping) and all(
        isinstance(name, str) and isinstance(limit, int | float) and not isinstance(limit, bool) and limit >= 0
        for name, limit in sums.items()
    )


def _is_daily_utc(partitions: dg.TimeWindowPartitionsDefinition) -> bool:
    return (
        partitions.timezone == "UTC" and partitions.cron_schedule == "0 0 * * *" and str(partitions.fmt) == "%Y-%m-%d"
    )


def _start(partition: Partition) -> Any:
    """What partitions are ordered by. Instants, not clock times: an hour that comes twice reads the same both times."""
    return partition.lower.timestamp() if isinstance(partition.lower, datetime) else partition.lower


def _calendar_day(key: str) -> Partition:
    day = day_of(key)
    return Partition(key, day, day + ONE_DAY)


def _window_of(partitions: dg.TimeWindowPartitionsDefinition) -> Any:
    def window(key: str) -> Partition:
        span = partitions.time_window_for_partition_key(key)
        return Partition(key, span.start, span.end)

    return window
