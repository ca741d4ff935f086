"""Events: what Dagster records about commits, one materialization a partition, each with its own data version.

Belongs here: what is said about each committed partition.

Dagster makes the events of a step itself, but gives all partitions of a range the same tags: one data version for the
whole range. Then a day rebuilt alone, with the same rows, would look changed, and everything downstream of it stale. So
the events of a range are made here, by Dagster's own function, one partition at a time, and Dagster is kept from making
them a second time (every event costs 12 to 14 ms).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import dagster as dg

from etl_project.storage.contract import Commit, Restored
from etl_project.storage.dagster import internals
from etl_project.storage.judging import deviation
from etl_project.utc import UTC


def began(step: Any) -> datetime:
    """When the body of the step began, this attempt of it."""
    kinds = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED}
    records = step.instance.get_records_for_run(step.run_id, of_type=kinds, ascending=False).records
    times = [r.event_log_entry.timestamp for r in records if r.event_log_entry.step_key == step.step.key]
    return datetime.fromtimestamp(max(times), UTC)


Said = Mapping[str | None, Mapping[str, Any]]
"""More metadata, of each partition its own."""


def describe(
    context: dg.OutputContext,
    commit: Commit,
    previews: Mapping[str | None, str],
    common: Mapping[str, Any],
    each: Said = MappingProxyType({}),
) -> None:
    """Add to the event that Dagster is about to make what the UI shows of the commit of a single partition."""
    own = each.get(commit.partition, {})
    context.add_output_metadata({**common, **own, **metadata_of(commit, previews.get(commit.partition))})
    internals.set_data_version(context, commit.fingerprint)


def materialized(
    context: dg.OutputContext,
    commits: Iterable[Commit],
    previews: Mapping[str | None, str],
    common: Mapping[str, Any],
    each: Said = MappingProxyType({}),
) -> None:
    """One materialization for each commit, with its own rows, fingerprint and data version; `common` is said of all."""
    commits = list(commits)
    versions = {str(commit.partition): commit.fingerprint for commit in commits}
    metadata = {
        str(one.partition): {**common, **each.get(one.partition, {}), **metadata_of(one, previews.get(one.partition))}
        for one in commits
    }
    internals.log_together(context, list(internals.materializations(context, versions, metadata)))


def metadata_of(commit: Commit, preview: str | None = None) -> dict[str, Any]:
    """The commit as event metadata, numbers as numbers (they are plotted); what is not known is left out.

    A store may answer an unchanged write with the record of the commit before: what that one changed is not told again.
    """
    if not commit.changed:
        commit = replace(commit, rows_before=commit.rows, rows_added=0, rows_removed=0, rows_kept=commit.rows)
    known: dict[str, Any] = {
        "dagster/row_count" if commit.partition is None else "dagster/partition_row_count": commit.rows,
        "preview": preview and dg.MetadataValue.md(preview),
        "fingerprint": commit.fingerprint,
        "input_hash": commit.input_hash,
        "changed": commit.changed,
        "rows_before": commit.rows_before,
        "rows_added": commit.rows_added,
        "rows_removed": commit.rows_removed,
        "rows_kept": commit.rows_kept,
        "committed_at": dg.MetadataValue.timestamp(commit.committed_at),
        "schema_changes": ", ".join(commit.schema_changes) or None,
        "restored": commit.restored and in_words(commit.restored),
        "not reproducible": commit.deviation and "\n".join(deviation.in_words(commit.deviation)),
    }
    return {name: value for name, value in known.items() if value is not None}


def in_words(restored: Restored) -> str:
    """That the rows were brought back, and that the partition is pinned to them."""
    why = f": {restored.reason}" if restored.reason else ""
    return f"the rows of commit {restored.sequence}{why}; pinned until its inputs or its code change (`etl unpin`)"
