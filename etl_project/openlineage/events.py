"""The OpenLineage events of one run that has ended, made of what Dagster's history says of it.

Belongs here: steps, commits and errors in the words of OpenLineage. Does not belong here: sending them (`telling`).

The same run gives the same events whenever it is asked for: who gets one twice has it once. A step is a run of its own,
whose parent is Dagster's run; one that went well and wrote nothing, like a check, is left out. A dataset is an asset.
No row is in them, and no setting; of an error what it says, with the values of secrets and passwords in addresses
masked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import attr
import dagster as dg
from dagster._core.definitions.data_version import CODE_VERSION_TAG, DATA_VERSION_TAG
from openlineage.client import event_v2 as ol
from openlineage.client.generated.base import DatasetFacet, InputDatasetFacet, OutputDatasetFacet
from openlineage.client.generated.base_subset_dataset import (
    InputSubsetInputDatasetFacet,
    OutputSubsetOutputDatasetFacet,
    Partition,
    PartitionSubsetCondition,
)
from openlineage.client.generated.column_lineage_dataset import ColumnLineageDatasetFacet, Fields, InputField
from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet
from openlineage.client.generated.error_message_run import ErrorMessageRunFacet
from openlineage.client.generated.job_type_job import JobTypeJobFacet
from openlineage.client.generated.nominal_time_run import NominalTimeRunFacet
from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet
from openlineage.client.generated.parent_run import Job, ParentRunFacet, Run
from openlineage.client.generated.processing_engine_run import ProcessingEngineRunFacet
from openlineage.client.generated.schema_dataset import SchemaDatasetFacet, SchemaDatasetFacetFields

from etl_project import utc
from etl_project.instance import json_lines
from etl_project.storage import COLUMN_LINEAGE, INPUTS_READ

PRODUCER = "urn:etl-project"
_KINDS = dg.DagsterEventType
_OF_STEPS = {_KINDS.STEP_START, _KINDS.STEP_SUCCESS, _KINDS.STEP_FAILURE, _KINDS.ASSET_MATERIALIZATION}
_ENDS = {
    dg.DagsterRunStatus.SUCCESS: ol.RunState.COMPLETE,
    dg.DagsterRunStatus.FAILURE: ol.RunState.FAIL,
    dg.DagsterRunStatus.CANCELED: ol.RunState.ABORT,
}
_LONGEST_MESSAGE = 1000
_PASSWORDS = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@|(passw(?:or)?d\s*=\s*)('[^']*'|\S+)", re.IGNORECASE)
_ROWS = ("dagster/partition_row_count", "dagster/row_count")
_OF_A_COMMIT = {
    "rowsBefore": "rows_before",
    "rowsAdded": "rows_added",
    "rowsRemoved": "rows_removed",
    "rowsKept": "rows_kept",
    "changed": "changed",
    "inputHash": "input_hash",
    "restored": "restored",
}

Columns = Mapping[str, dg.TableSchema]
"""The declared columns of assets."""


@attr.define
class PartitionsDatasetFacet(DatasetFacet):
    """`etl_partitions`: each partition that was read or written, with its version, and what its commit says."""

    partitions: list[dict[str, Any]]

    @staticmethod
    def _get_schema() -> str:
        return "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/DatasetFacet"


def of_run(instance: dg.DagsterInstance, record: dg.RunRecord, namespace: str, columns: Columns) -> list[ol.RunEvent]:
    """The events of the run and of its steps, each beginning before its end."""
    return list(_OfRun(instance, record, namespace, columns).events())


@dataclass
class _Step:
    """What the history says of one step."""

    began: float | None = None
    ended: float | None = None
    error: str | None = None
    written: list[dg.AssetMaterialization] = field(default_factory=list)


@dataclass(frozen=True)
class _OfRun:
    instance: dg.DagsterInstance
    record: dg.RunRecord
    namespace: str
    columns: Columns

    def events(self) -> Iterator[ol.RunEvent]:
        run, state = self.record.dagster_run, _ENDS[self.record.dagster_run.status]
        began, ended = self.record.start_time or self.record.create_timestamp.timestamp(), self.record.end_time
        steps = self._steps()
        job = ol.Job(self.namespace, run.job_name, {"jobType": _job_type("JOB")})
        yield self._event(ol.RunState.START, began, run.run_id, job, self._facets())
        for key, step in steps.items():
            if step.written or step.error or not step.ended:
                yield from self._of_step(key, step, state)
        errors = "; ".join(f"{key}: {step.error}" for key, step in steps.items() if step.error)
        why = _why(errors or "the run's page says why") if state is ol.RunState.FAIL else {}
        yield self._event(state, ended or began, run.run_id, job, {**self._facets(), **why})

    def _of_step(self, key: str, step: _Step, of_run: ol.RunState) -> Iterator[ol.RunEvent]:
        """A step that was not told to have ended, ended as the run did: its process is gone."""
        run = self.record.dagster_run
        parent = ParentRunFacet(Run(run.run_id), Job(self.namespace, run.job_name))
        facets = {**self._facets(), "parent": parent}
        job = ol.Job(self.namespace, key, {"jobType": _job_type("TASK")})
        run_id = str(uuid5(UUID(run.run_id), key))
        began = step.began or self.record.start_time or self.record.create_timestamp.timestamp()
        state = ol.RunState.FAIL if step.error else (ol.RunState.COMPLETE if step.ended else of_run)
        if state is ol.RunState.COMPLETE and not step.ended:
            state = ol.RunState.ABORT
        yield self._event(ol.RunState.START, began, run_id, job, facets)
        end = step.ended or self.record.end_time or began
        why = _why(step.error) if step.error else {}
        yield self._event(state, end, run_id, job, {**facets, **why}, self._inputs(step), self._outputs(step))

    def _steps(self) -> dict[str, _Step]:
        steps: dict[str, _Step] = {}
        for entry in self.instance.all_logs(self.record.dagster_run.run_id, of_type=_OF_STEPS):
            event = entry.get_dagster_event()
            step = steps.setdefault(str(event.step_key), _Step())
            if event.event_type is _KINDS.STEP_START:
                step.began, step.error = step.began or entry.timestamp, None
            elif event.event_type is _KINDS.ASSET_MATERIALIZATION:
                step.written.append(event.step_materialization_data.materialization)
            else:
                step.ended = entry.timestamp
                failed = event.event_type is _KINDS.STEP_FAILURE
                step.error = _said(event) if failed else None
        return steps

    def _event(
        self,
        state: ol.RunState,
        at: float,
        run_id: str,
        job: ol.Job,
        facets: Mapping[str, Any],
        inputs: Sequence[ol.InputDataset] = (),
        outputs: Sequence[ol.OutputDataset] = (),
    ) -> ol.RunEvent:
        return ol.RunEvent(
            eventType=state,
            eventTime=datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
            run=ol.Run(run_id, dict(facets)),
            job=job,
            inputs=list(inputs),
            outputs=list(outputs),
            producer=PRODUCER,
        )

    def _facets(self) -> dict[str, Any]:
        """Of the run and of all its steps: the days that it was over, and the engine."""
        engine = ProcessingEngineRunFacet(version=dg.__version__, name="dagster")
        days = utc.days_of_run(self.record.dagster_run.tags)
        if days is None:
            return {"processing_engine": engine}
        first, after = f"{days[0]}T00:00:00+00:00", f"{days[1] + utc.ONE_DAY}T00:00:00+00:00"
        return {"processing_engine": engine, "nominalTime": NominalTimeRunFacet(first, after)}

    def _inputs(self, step: _Step) -> list[ol.InputDataset]:
        """What the step read, as its commits say it: every partition with the version that it had."""
        read: dict[str, dict[str | None, str | None]] = {}
        for written in step.written:
            found = written.metadata.get(INPUTS_READ)
            listed: Any = found.value if isinstance(found, dg.JsonMetadataValue) else ()
            for asset, partition, version in listed:
                read.setdefault(asset, {})[partition] = version
        return [self._input(asset, versions) for asset, versions in sorted(read.items())]

    def _input(self, asset: str, versions: Mapping[str | None, str | None]) -> ol.InputDataset:
        told = [{"partition": key, "version": version} for key, version in versions.items()]
        days = _subset(versions)
        facets: dict[str, InputDatasetFacet] = {} if days is None else {"subset": InputSubsetInputDatasetFacet(days)}
        return ol.InputDataset(self.namespace, asset, facets=self._of_dataset(asset, told), inputFacets=facets)

    def _outputs(self, step: _Step) -> list[ol.OutputDataset]:
        by_asset: dict[str, list[dg.AssetMaterialization]] = {}
        for written in step.written:
            by_asset.setdefault(written.asset_key.to_user_string(), []).append(written)
        return [self._output(asset, commits) for asset, commits in sorted(by_asset.items())]

    def _output(self, asset: str, commits: Sequence[dg.AssetMaterialization]) -> ol.OutputDataset:
        told = [_commit(one) for one in commits]
        facets = self._of_dataset(asset, told)
        lineage = commits[-1].metadata.get(COLUMN_LINEAGE)
        if isinstance(lineage, dg.TableColumnLineageMetadataValue):
            facets["columnLineage"] = self._column_lineage(lineage.column_lineage)
        of_output: dict[str, OutputDatasetFacet] = {}
        if (days := _subset([one.partition for one in commits])) is not None:
            of_output["subset"] = OutputSubsetOutputDatasetFacet(days)
        rows = [one["rows"] for one in told if "rows" in one]
        if rows:
            of_output["outputStatistics"] = OutputStatisticsOutputDatasetFacet(rowCount=sum(rows))
        return ol.OutputDataset(self.namespace, asset, facets=facets, outputFacets=of_output)

    def _of_dataset(self, asset: str, partitions: list[dict[str, Any]]) -> dict[str, DatasetFacet]:
        """Columns as they are declared; the version where there is one, for a range has one a day."""
        facets: dict[str, DatasetFacet] = {"etl_partitions": PartitionsDatasetFacet(partitions)}
        if len(partitions) == 1 and partitions[0]["version"] is not None:
            facets["version"] = DatasetVersionDatasetFacet(partitions[0]["version"])
        if asset in self.columns:
            fields = [
                SchemaDatasetFacetFields(one.name, one.type, one.description) for one in self.columns[asset].columns
            ]
            facets["schema"] = SchemaDatasetFacet(fields)
        return facets

    def _column_lineage(self, lineage: dg.TableColumnLineage) -> ColumnLineageDatasetFacet:
        return ColumnLineageDatasetFacet(
            {
                column: Fields([InputField(self.namespace, d.asset_key.to_user_string(), d.column_name) for d in deps])
                for column, deps in lineage.deps_by_column.items()
            }
        )


def _commit(written: dg.AssetMaterialization) -> dict[str, Any]:
    """One partition that was written, as its event says it; what is not known is left out."""
    said, tags = written.metadata, written.tags or {}
    told = {"partition": written.partition, "version": tags.get(DATA_VERSION_TAG)}
    rows = dict([("rows", said[name].value) for name in _ROWS if name in said][:1])
    more = {name: said[known].value for name, known in _OF_A_COMMIT.items() if known in said}
    code = {"codeVersion": tags[CODE_VERSION_TAG]} if CODE_VERSION_TAG in tags else {}
    return {**told, **rows, **more, **code}


def _subset(partitions: Mapping[str | None, Any] | Sequence[str | None]) -> PartitionSubsetCondition | None:
    """The partitions in OpenLineage's own words; None for all of an asset without partitions."""
    keys = [key for key in partitions if key is not None]
    return PartitionSubsetCondition([Partition({"partition": key}, key) for key in keys]) if keys else None


def _job_type(kind: str) -> JobTypeJobFacet:
    return JobTypeJobFacet(processingType="BATCH", integration="DAGSTER", jobType=kind)


def _why(text: str) -> dict[str, Any]:
    """What an error says, without what nobody may read."""
    safe = json_lines.masked(text, json_lines.secrets(os.environ))
    safe = _PASSWORDS.sub(lambda m: f"{m[1]}***@" if m[1] else f"{m[2]}***", safe)
    return {"errorMessage": ErrorMessageRunFacet(safe[:_LONGEST_MESSAGE], "PYTHON")}


def _said(event: dg.DagsterEvent) -> str:
    """The first cause of a failed step, without Dagster's wrapping."""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return "no reason" if error is None else error.message.strip()
