"""Completeness: days whose file should be there by now and is not. It looks at files, not at green squares.

Belongs here: which days are overdue, and Dagster's freshness policy for the same deadline. Does not belong here: days
whose file came and was refused (they are red for that), and days that a source calls empty.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from etl_project.sources.spec import SourceSpec
from etl_project.utc import ONE_DAY, days_between

CHECK = "expected_files_have_come"
OVERDUE = "No file has come by its deadline. Ask the sender; nothing is written for the day."


def overdue(spec: SourceSpec, come: Collection[date], now: datetime) -> list[date]:
    """The days, ascending, whose file has not come by the deadline of the source.

    `come`: days with an accepted, a waiting or a refused file. A source is expected to send from its first file on;
    nothing is expected of one that never sent any, or that has no deadline.
    """
    if spec.deadline is None or not come:
        return []
    ended = now.astimezone(UTC) - timedelta(hours=spec.deadline.hour, minutes=spec.deadline.minute)
    last = ended.date() - ONE_DAY
    return [day for day in days_between(min(come), last) if day not in come]


def freshness_policy(spec: SourceSpec) -> dg.FreshnessPolicy | None:
    """Each day a file has to be taken in before the deadline; None for a source without one."""
    if spec.deadline is None:
        return None
    return dg.FreshnessPolicy.cron(
        deadline_cron=f"{spec.deadline.minute} {spec.deadline.hour} * * *", lower_bound_delta=ONE_DAY, timezone="UTC"
    )
