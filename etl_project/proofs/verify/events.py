"""Dagster's history against the commit records: events that are missing, and events of what is not there.

Belongs here: comparing the newest materialization of every partition with its last commit, and writing the events that
a kill between commit and event left out. Rows and records are never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from etl_project.exclusion import run_lock
from etl_project.proofs.verify.findings import DaySpan
from etl_project.proofs.verify.targets import Stored
from etl_project.storage import Commit, Finding, Looked, metadata_of, said

Known = Mapping[str | None, str | None]
"""The partitions that Dagster has as materialized, each with its data version where its newest event has one."""


def known(instance: dg.DagsterInstance, target: Stored) -> Known:
    """What Dagster's newest events say of an asset."""
    key = dg.AssetKey.from_user_string(target.asset)
    if target.partitions is None:
        newest = instance.get_latest_materialization_event(key)
        return {} if newest is None else {None: _version(newest)}
    made = dg.DagsterEventType.ASSET_MATERIALIZATION
    tags = instance.event_log_storage.get_latest_tags_by_partition(key, made, [DATA_VERSION_TAG])
    return {
        partition: tags.get(partition, {}).get(DATA_VERSION_TAG)
        for partition in instance.get_materialized_partitions(key)
    }


def unknown(instance: dg.DagsterInstance, target: Stored, looked: Looked, before: Known) -> list[Commit]:
    """Commits whose event Dagster does not have. `before` was read before the commits were.

    A run that is still at work writes its events after its commits: those are not missing yet.
    """
    suspects = [commit for key, commit in looked.commits.items() if before.get(key) != commit.fingerprint]
    if not suspects:
        return []
    now = known(instance, target)
    suspects = [commit for commit in suspects if now.get(commit.partition) != commit.fingerprint]
    at_work = {run_id for run_id in {commit.run_id for commit in suspects} if _at_work(instance, run_id)}
    return [commit for commit in suspects if commit.run_id not in at_work]


def findings(
    instance: dg.DagsterInstance, target: Stored, looked: Looked, before: Known, window: DaySpan
) -> Iterator[Finding]:
    """What Dagster does not know, and what it knows that is not there."""
    for commit in unknown(instance, target, looked, before):
        there = before.get(commit.partition, "nothing") or "no data version"
        told = f"Dagster's newest event says {there}; the commit says {said(commit)}"
        yield Finding("unknown to Dagster", target.asset, commit.partition, "Dagster's event log", told)
    told_already = {finding.partition for finding in looked.findings}
    unreadable = target.partitions is not None and any(
        f.partition is None for f in looked.findings if f.kind == "corrupt"
    )
    for key in sorted(before.keys() - looked.commits.keys() - told_already, key=str):
        if window.holds(key) and not unreadable:
            yield target.store.unrecorded(target.table, key)


def repair(
    instance: dg.DagsterInstance, target: Stored, commits: Iterable[Commit], by: str = "`etl verify --repair`"
) -> None:
    """Write the event of each commit, as its run would have. A kill leaves some written; the rest is found again.

    The event carries no code version: without the versions of the inputs, which only the run knew, Dagster would
    compare against nothing.
    """
    for commit in commits:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                asset_key=dg.AssetKey.from_user_string(target.asset),
                partition=commit.partition,
                description=f"Written by {by} for the commit of run {commit.run_id}.",
                metadata=metadata_of(commit),
                tags={DATA_VERSION_TAG: commit.fingerprint},
            )
        )


def _version(event: dg.EventLogEntry) -> str | None:
    materialization = event.asset_materialization
    return (materialization.tags or {}).get(DATA_VERSION_TAG) if materialization is not None else None


def _at_work(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the run may still write its events: it has not ended, and not all of its processes have died."""
    run = instance.get_run_by_id(run_id)
    return run is not None and not run.is_finished and run_lock.may_be_at_work(run)
