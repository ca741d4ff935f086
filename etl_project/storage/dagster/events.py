"""Events: what Dagster records about commits, one materialization a partition, each with its own data version.

Belongs here: the event of each committed partition, and the only use of Dagster's private parts in the storage layer.

Dagster makes the events of a step itself, but gives all partitions of a range the same tags: one data version for the
whole range. Then a day rebuilt alone, with the same rows, would look changed, and everything downstream of it stale. So
the events of a range are made here, by Dagster's own function, one partition at a time, and Dagster is kept from making
them a second time (every event costs 12 to 14 ms). Tried with dagster 1.13.27, which the project pins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster import DagsterEvent
from dagster._core.definitions.assets.definition.asset_spec import AssetExecutionType
from dagster._core.definitions.data_version import DataVersion
from dagster._core.definitions.metadata import normalize_metadata
from dagster._core.execution.plan.execute_step import _get_output_asset_events

from etl_project.storage.contract import Commit
from etl_project.storage.judging import deviation


def began(step: Any) -> datetime:
    """When the body of the step began, this attempt of it."""
    kinds = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED}
    records = step.instance.get_records_for_run(step.run_id, of_type=kinds, ascending=False).records
    times = [r.event_log_entry.timestamp for r in records if r.event_log_entry.step_key == step.step.key]
    return datetime.fromtimestamp(max(times), UTC)


def describe(context: dg.OutputContext, commit: Commit, previews: Mapping[str | None, str]) -> None:
    """Add to the event that Dagster is about to make what the UI shows of the commit of a single partition."""
    context.add_output_metadata(metadata_of(commit, previews.get(commit.partition)))
    context.step_context.set_data_version(context.asset_key, DataVersion(commit.fingerprint))


def materialized(
    context: dg.OutputContext, commits: Iterable[Commit], previews: Mapping[str | None, str]
) -> Iterator[DagsterEvent]:
    """One materialization for each commit, with its own rows, fingerprint and data version."""
    step, asset_key = context.step_context, context.asset_key
    output = dg.Output(None, context.name, metadata=dict(context.output_metadata or {}))
    for commit in commits:
        metadata = normalize_metadata(metadata_of(commit, previews.get(commit.partition)))
        step.set_data_version(asset_key, DataVersion(commit.fingerprint))
        kind = AssetExecutionType.MATERIALIZATION
        made: Iterable[Any] = _get_output_asset_events(
            asset_key, [str(commit.partition)], output, step.op_def.output_def_named(context.name), metadata, step, kind
        )
        for event in made:
            yield DagsterEvent.asset_materialization(step, event)


def no_more_events(context: dg.OutputContext) -> None:
    """Keep Dagster from making the events of this output again: it makes none for an output without an asset."""
    context._asset_key = None


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
        "not reproducible": commit.deviation and "\n".join(deviation.in_words(commit.deviation)),
    }
    return {name: value for name, value in known.items() if value is not None}
