"""Told checks: results of checks that no run has made, as often as they change.

Belongs here: a trap of Dagster's history. It keeps a result without a run under the empty run id, and holds (check,
run id, partition) unique: the second result of a partition is an IntegrityError (1.13; a sensor's tick fails for good
with it, before its runs are asked for). Does not belong here: what is told (`due.sensor`, `sources.discarded`).
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage


def make_room(instance: dg.DagsterInstance, evaluations: Iterable[dg.AssetCheckEvaluation]) -> None:
    """Take the results that were told earlier without a run, and that these replace, out of Dagster's history.

    For who tells these right after it. Their events stay in the log. A kill before they are told leaves such a check
    as the last run saw it, until they are told again. Results of runs are never touched.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return
    table = AssetCheckExecutionsTable.c
    for one in evaluations:
        same = (
            (table.asset_key == one.asset_key.to_string())
            & (table.check_name == one.check_name)
            & (table.run_id == RUNLESS_RUN_ID)
            & (table.partition == one.partition)
        )
        with storage.index_connection() as connection:
            connection.execute(AssetCheckExecutionsTable.delete().where(same))
