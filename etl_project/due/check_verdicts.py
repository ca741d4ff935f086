"""Verdicts: what Dagster knows of the asset checks, by partition.

Belongs here: reading check results back from the instance, and which of them keep something from being built. A check
without partitions speaks for all partitions of its run. It writes nothing, and keeps nothing between two looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
    AssetCheckPartitionInfo,
)
from dagster._core.storage.event_log import EventLogStorage

from etl_project import utc
from etl_project.due.graph import Key, Node
from etl_project.due.reasons import Red, Verdict
from etl_project.storage import OF_CANDIDATE, Head

_PAGE = 200
_FAILED = {AssetCheckExecutionRecordStatus.FAILED, AssetCheckExecutionRecordStatus.PLANNED}
_PASSED = {AssetCheckExecutionRecordStatus.SUCCEEDED}


def red(nodes: Iterable[Node], commits: Mapping[tuple[str, Key], Head], instance: dg.DagsterInstance) -> Red:
    """The partitions whose blocking checks failed, or did not finish, since the commit, and have not passed since.

    Only failures are read, and what came after those that still count, so a quiet look costs one query a check.
    """
    found: dict[tuple[str, Key], Verdict] = {}
    for node in nodes:
        if node.blocking:
            heads = {key: head for (asset, key), head in commits.items() if asset == node.asset}
            for name in node.blocking:
                for key, verdict in _Check(node, name, heads, instance).red().items():
                    found.setdefault((node.asset, key), verdict)
    return found


@dataclass(frozen=True)
class RedCheck:
    """A check that failed as an error: of which asset and partition (None: of the run), and what it said."""

    asset: str
    name: str
    partition: str | None
    said: str | None

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What another result of the same check would have too."""
        return self.asset, self.name, self.partition

    def __str__(self) -> str:
        where = f" {self.partition}" if self.partition else ""
        return f"{self.asset}{where}: {self.name} failed" + (f": {self.said}" if self.said else "")


def red_checks(instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey]) -> list[RedCheck]:
    """The checks whose last result is a failure, as an error; of partitioned ones, each partition's last.

    Only failures are read in full, however long ago; a check that never failed costs one query.
    """
    found = (record.evaluation for key in sorted(keys) for record in _last_failures(instance.event_log_storage, key))
    return [red_check(evaluation) for evaluation in found if evaluation is not None and is_red(evaluation)]


def _last_failures(storage: EventLogStorage, key: dg.AssetCheckKey) -> list[AssetCheckExecutionRecord]:
    """The last result of each partition of a check, where it is a failure."""
    last: dict[str | None, AssetCheckExecutionRecord] = {}
    by_partition: set[str] = set()
    for record in _history(storage, key, {AssetCheckExecutionRecordStatus.FAILED}):
        last.setdefault(record.partition, record)
        if record.partition is not None:
            by_partition.add(record.run_id)
    if not last:
        return []
    ended = {
        info.partition_key: info
        for info in storage.get_asset_check_partition_info([key])
        if info.latest_execution_status is not AssetCheckExecutionRecordStatus.PLANNED
    }
    alone = last.get(None)
    if alone is not None:
        # The sum of what a run said of each partition; or of a time when the check had no partitions.
        newer = (info for info in ended.values() if info.partition_key is not None)
        at = max((info.latest_check_event_storage_id for info in newer), default=0)
        if alone.run_id in by_partition or (ended.get(None) and ended[None].latest_check_event_storage_id < at):
            last.pop(None)
    return [record for partition, record in last.items() if not _passed_since(storage, key, partition, record, ended)]


def _passed_since(
    storage: EventLogStorage,
    key: dg.AssetCheckKey,
    partition: str | None,
    failure: AssetCheckExecutionRecord,
    ended: Mapping[str | None, AssetCheckPartitionInfo],
) -> bool:
    """Whether the check has passed after this failure. What is only planned says nothing, and hides nothing."""
    if partition in ended:
        return ended[partition].latest_execution_status in _PASSED
    only = PartitionKeyFilter(key=partition)
    passed = storage.get_asset_check_execution_history(key, limit=1, status=_PASSED, partition_filter=only)
    return any(one.id > failure.id for one in passed)


def _history(
    storage: EventLogStorage, key: dg.AssetCheckKey, status: set[AssetCheckExecutionRecordStatus]
) -> Iterator[AssetCheckExecutionRecord]:
    """The results of a check with this status, newest first."""
    cursor = None
    while True:
        page = storage.get_asset_check_execution_history(key, limit=_PAGE, cursor=cursor, status=status)
        yield from page
        if len(page) < _PAGE:
            return
        cursor = page[-1].id


def is_red(evaluation: dg.AssetCheckEvaluation) -> bool:
    """Whether a check failed, as an error: a warning is none."""
    return not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR


def red_check(evaluation: dg.AssetCheckEvaluation) -> RedCheck:
    """What a result says, without Dagster."""
    asset = evaluation.asset_key.to_user_string()
    return RedCheck(asset, evaluation.check_name, evaluation.partition, evaluation.description)


class _Result(NamedTuple):
    id: int
    at_us: int
    keys: frozenset[Key]
    verdict: Verdict


class _Check:
    """The results of one check of one asset."""

    def __init__(self, node: Node, name: str, heads: Mapping[Key, Head], instance: dg.DagsterInstance) -> None:
        self._node, self._name, self._heads, self._instance = node, name, heads, instance
        self._key = dg.AssetCheckKey(dg.AssetKey.from_user_string(node.asset), name)
        self._runs: dict[str, dg.DagsterRun | None] = {}

    def red(self) -> dict[Key, Verdict]:
        """Each partition that the check keeps from being used, with what it said last."""
        found: dict[Key, _Result] = {}
        oldest_us = min((head.committed_us for head in self._heads.values()), default=0)
        for result in self._results(_FAILED):
            if result.at_us < oldest_us and result.verdict.finished:
                break
            for key in result.keys:
                if result.at_us >= self._heads[key].committed_us:
                    found.setdefault(key, result)
        if found:
            oldest = min(result.id for result in found.values())
            for passed in self._results(_PASSED):
                if passed.id < oldest:
                    break
                found = {key: bad for key, bad in found.items() if key not in passed.keys or bad.id > passed.id}
        return {key: result.verdict for key, result in found.items()}

    def _results(self, status: set[AssetCheckExecutionRecordStatus]) -> Iterator[_Result]:
        """The results of this kind, newest first. One that was only planned counts once its run has ended."""
        storage, cursor = self._instance.event_log_storage, None
        while True:
            page = storage.get_asset_check_execution_history(self._key, limit=_PAGE, cursor=cursor, status=status)
            evaluated = [record for record in page if record.status is not AssetCheckExecutionRecordStatus.PLANNED]
            by_partition = {record.run_id for record in evaluated if record.partition is not None}
            for record in page:
                if record.partition is None and record.run_id in by_partition:
                    continue  # The sum of what the same run said of each partition.
                verdict = self._verdict(record)
                if verdict is not None:
                    yield _Result(record.id, self._at_us(record), self._keys(record), verdict)
            if len(page) < _PAGE:
                return
            cursor = page[-1].id

    def _verdict(self, record: AssetCheckExecutionRecord) -> Verdict | None:
        """What a result says; None for one that keeps nothing back."""
        if record.status is AssetCheckExecutionRecordStatus.PLANNED:
            run = self._run(record.run_id)
            if run is None or run.status not in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED):
                return None
            if self._was_evaluated(record.run_id, record.partition):
                return None  # Dagster plans every check by partition, and leaves the plan of one without them.
            said = f"its blocking check {self._name} did not finish in run {record.run_id[:8]}"
            return Verdict(said, finished=False)
        evaluation = record.evaluation
        passed = evaluation is None or record.status is AssetCheckExecutionRecordStatus.SUCCEEDED
        # What was never published says nothing of the rows that are; a candidate keeps things back by itself.
        if evaluation is not None and (
            OF_CANDIDATE in evaluation.metadata or not (passed or evaluation.severity is dg.AssetCheckSeverity.ERROR)
        ):
            return None
        if passed or evaluation is None:
            return Verdict("passed")
        why = f": {evaluation.description}" if evaluation.description else ""
        return Verdict(f"its blocking check {self._name} failed{why}")

    def _was_evaluated(self, run_id: str, partition: str | None) -> bool:
        """Whether the check came to a result in that run, for the partition or for all of them."""
        events = self._instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
        results: list[Any] = [record.event_log_entry.get_dagster_event().event_specific_data for record in events]
        return any(each.asset_check_key == self._key and each.partition in (None, partition) for each in results)

    def _keys(self, record: AssetCheckExecutionRecord) -> frozenset[Key]:
        """The committed partitions that a result speaks for."""
        if record.partition is not None:
            return frozenset(self._heads.keys() & {self._node.keys.key(record.partition)})
        run = self._run(record.run_id)
        ends = None if run is None else utc.keys_of_run(run.tags)
        if ends is None:
            return frozenset(self._heads)
        first, last = ends
        if first == last:
            return frozenset(self._heads.keys() & {self._node.keys.key(first)})
        return frozenset(key for key in self._heads if first <= str(key) <= last)

    def _run(self, run_id: str) -> dg.DagsterRun | None:
        if run_id not in self._runs:
            self._runs[run_id] = self._instance.get_run_by_id(run_id)
        return self._runs[run_id]

    def _at_us(self, record: AssetCheckExecutionRecord) -> int:
        """When the result came, in microseconds since 1970; of a check that did not finish, when its run ended."""
        if record.status is AssetCheckExecutionRecordStatus.PLANNED:
            run = self._instance.get_run_record_by_id(record.run_id)
            return round((run.end_time or run.update_timestamp.timestamp() if run else 0) * 1e6)
        event: Any = record.event
        return round((event.timestamp if event is not None else record.create_timestamp) * 1e6)
