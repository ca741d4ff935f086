"""Jobs: one for each set of partitions, because Dagster lets no job select assets of two.

Belongs here: which job builds which asset. Sensor, schedule and drain ask for runs of these jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import dagster as dg

from etl_project.due.graph import DAYS_JOB


def jobs_of(specs: Iterable[dg.AssetSpec]) -> dict[str, list[dg.AssetKey]]:
    """The assets of each job: DAYS_JOB builds those with the partitions that most have, and those without partitions.

    The others are named after their partitions: `build_weeks`, `build_static`, and numbered where there are several.
    """
    kept = list(specs)
    counted = Counter(spec.partitions_def for spec in kept if spec.partitions_def is not None)
    names: dict[Any, str] = {None: DAYS_JOB}
    for partitions, _ in sorted(counted.items(), key=lambda one: (-one[1], not _is_daily(one[0]), str(one[0]))):
        named = DAYS_JOB if len(names) == 1 and _is_daily(partitions) else f"build_{_kind(partitions)}"
        taken = sum(name == named or name.startswith(f"{named}_") for name in names.values())
        names[partitions] = f"{named}_{taken + 1}" if taken and named != DAYS_JOB else named
    found: dict[str, list[dg.AssetKey]] = {DAYS_JOB: []}
    for spec in kept:
        found.setdefault(names[spec.partitions_def], []).append(spec.key)
    return found


def _is_daily(partitions: Any) -> bool:
    return isinstance(partitions, dg.TimeWindowPartitionsDefinition) and partitions.is_basic_daily


def _kind(partitions: Any) -> str:
    """A word for the partitions."""
    if isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        kinds = {"0 * * * *": "hours", "0 0 * * *": "other_days", "0 0 1 * *": "months"}
        return kinds.get(partitions.cron_schedule, "weeks" if partitions.cron_schedule[:8] == "0 0 * * " else "periods")
    kinds = {"StaticPartitionsDefinition": "static", "MultiPartitionsDefinition": "dimensions"}
    return kinds.get(type(partitions).__name__, "partitions")
