"""Discarded: what is told of days once a person has removed their refused files.

Belongs here: the checks of refused files, which nothing else would let pass: a discarded file asks for no run. Does not
belong here: removing the files (`quarantine`), or the checks themselves (`checks`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import dagster as dg

from etl_project import settings
from etl_project.instance import told_checks
from etl_project.sources import checks
from etl_project.sources.asset_names import Names
from etl_project.sources.intake import quarantine
from etl_project.sources.spec import SourceSpec


def tell(
    instance: dg.DagsterInstance, spec: SourceSpec, configured: settings.Settings, days: Iterable[date | None]
) -> None:
    """Let the checks of refused files pass for those of the days of which no refused file is left.

    None stands for files whose rows say their day, or that have none. After a kill before this, the check of such a day
    stays red until a run of the day looks again.
    """
    open_days = quarantine.open_days(configured.quarantine, configured.archive, spec)
    files = dg.AssetKey(Names.of(spec.name).files)
    for day in sorted({*days} - open_days, key=str):
        if day is not None:
            name, partition = checks.NO_REFUSED_FILES, str(day)
        elif spec.day_from is not None and not checks.refused_of_many_days(spec, configured):
            name, partition = checks.NO_REFUSED_FILES_OF_MANY_DAYS, None
        else:
            continue
        event = dg.AssetCheckEvaluation(asset_key=files, check_name=name, passed=True, partition=partition)
        told_checks.make_room(instance, [event])
        instance.report_runless_asset_event(event)
