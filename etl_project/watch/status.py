"""Status: per asset, what is committed, failed, stale and missing, by day; per source, what waits and was refused.

Belongs here: computing it from one look and Dagster's newest runs. Does not belong here: printing (`cli.status`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from etl_project import utc
from etl_project.due import (
    Days,
    Key,
    Node,
    Outlook,
    Project,
    Snapshot,
    attempts,
    check_verdicts,
    failure_words,
    in_dependency_order,
    outlook,
    words,
)
from etl_project.sources import SourceSpec, quarantine
from etl_project.storage import Head
from etl_project.utc import ONE_DAY, days_between

if TYPE_CHECKING:
    from etl_project.sources import looking

CALENDAR_DAYS = 60
"""So many of the newest days are told one by one; older ones are in the counts."""
_RUNS, _LOOKED_AT = 5, 50

State = Literal["committed", "failed", "stale", "missing"]


@dataclass(frozen=True)
class AssetStatus:
    """One asset. Partitions are counted; `last_commit` is UTC in ISO form, `calendar` the newest days with their state.

    `waits` says in words what is not asked for although something has changed, and why; `by_hand` why nothing of the
    asset is ever asked for.
    """

    asset: str
    committed: int
    failed: int
    missing: int
    stale: int
    rows: int
    last_commit: str | None
    calendar: Mapping[str, State]
    waits: tuple[str, ...] = ()
    by_hand: str | None = None


@dataclass(frozen=True)
class SourceStatus:
    """One source's files: those that wait (unsettled ones included), those in quarantine that nothing accepted since
    replaces, the days, in ISO form, whose
    file has not come by its deadline, and what keeps files from being taken in, in words."""

    source: str
    waiting: int
    quarantined: int
    overdue: tuple[str, ...]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunStatus:
    """One run: the days it was asked for (None: no days), how it ended or how far it is, UTC in ISO form."""

    run_id: str
    job: str
    first: str | None
    last: str | None
    assets: int | None
    outcome: str
    started_at: str | None
    seconds: float | None


@dataclass(frozen=True)
class Status:
    """Everything at one instant (UTC)."""

    at: str
    assets: tuple[AssetStatus, ...]
    sources: tuple[SourceStatus, ...]
    runs: tuple[RunStatus, ...]
    gone: tuple[str, ...] = ()
    """Tables that are gone although they were committed to, in words."""
    not_taken: tuple[str, ...] = ()
    """Files, folders of a bucket, and keys of partitions that nothing takes, in words."""
    red_checks: tuple[str, ...] = ()
    """Checks whose last result is a failure, in words."""
    broken: tuple[str, ...] = ()
    """What is wrong with pipelines that cannot be loaded, in words."""
    unpublished: tuple[str, ...] = ()
    """Rows that did not pass their checks and wait as candidates, in words."""
    failures: tuple[str, ...] = ()
    """What failed and waits, in words, with what the last failure said."""
    pinned: tuple[str, ...] = ()
    """Days that were rolled back and are held so, in words."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, for scripts."""
        return asdict(self)


@dataclass(frozen=True)
class Open:
    """The partitions that are due, by asset: those whose last attempt failed, and the others; and what else there is
    to see."""

    failed: Mapping[str, set[Key]]
    other: Mapping[str, set[Key]]
    outlook: Outlook


def status(
    project: Project,
    instance: dg.DagsterInstance,
    snapshot: Snapshot,
    red_checks: Iterable[check_verdicts.RedCheck] = (),
    in_bucket: looking.Look | None = None,
) -> Status:
    """The state of every asset and source in this snapshot.

    Failed: due, and the last run that was asked for in the same state failed. Stale: committed, but its inputs have
    changed since. Missing: neither committed nor failed, between the first and the last day that the asset, what it
    reads, or the source of either knows of; today does not count while it is open.
    """
    commits: dict[str, dict[Key, Head]] = {node.asset: {} for node in project.nodes if node.source is None}
    for (asset, key), head in snapshot.commits.items():
        commits[asset][key] = head
    left, known = left_open(project, instance, snapshot), _known_days(project, snapshot, commits)
    return Status(
        at=snapshot.at.isoformat(timespec="seconds"),
        assets=tuple(
            _asset(node, commits[node.asset], known[node.asset], left) for node in project.nodes if node.source is None
        ),
        sources=tuple(_source(project, snapshot, spec, in_bucket) for spec in project.sources),
        runs=tuple(_run(record) for record in _newest_runs(instance)),
        gone=tuple(snapshot.gone_in_words),
        not_taken=(*snapshot.unusable_keys, *snapshot.stray, *(in_bucket.stray if in_bucket is not None else ())),
        unpublished=tuple(snapshot.unpublished_in_words),
        red_checks=tuple(str(check) for check in red_checks),
        broken=(*project.broken, *project.left_out),
        failures=tuple(failure_words.in_lines(instance, left.outlook.due, snapshot.at)),
    )


def left_open(project: Project, instance: dg.DagsterInstance, snapshot: Snapshot) -> Open:
    """What is due by asset and partition, told apart by whether the last run for the same state failed."""
    failed: dict[str, set[Key]] = {}
    other: dict[str, set[Key]] = {}
    ahead = outlook(project, snapshot, red=check_verdicts.red(project.nodes, snapshot.commits, instance))
    earlier = attempts.attempts_of(instance, (one.state for one in ahead.due))
    for one in ahead.due:
        marks = failed if any(attempt.failed for attempt in earlier[one.state]) else other
        for asset in one.assets:
            marks.setdefault(asset, set()).update(one.keys)
    return Open(failed, other, ahead)


def _asset(node: Node, commits: Mapping[Key, Head], known: Sequence[Key], left: Open) -> AssetStatus:
    asset = node.asset
    failed, own = left.failed.get(asset, set()), left.outlook.stale.get(asset, ())
    stale = left.other.get(asset, set()) | set(own) | left.outlook.held.get(asset, {}).keys()

    def state(key: Key) -> State:
        if key in failed:
            return "failed"
        if key not in commits:
            return "missing"
        return "stale" if key in stale else "committed"

    last = max((head.committed_at for head in commits.values()), default=None)
    return AssetStatus(
        asset=asset,
        committed=len(commits),
        failed=len(failed),
        missing=sum(key not in commits and key not in failed for key in known),
        stale=len(stale & commits.keys()),
        rows=sum(head.rows for head in commits.values()),
        last_commit=last.isoformat(timespec="seconds") if last else None,
        calendar={str(key): state(key) for key in known[-CALENDAR_DAYS:] if isinstance(key, date)},
        waits=tuple(words.of_asset(asset, left.outlook)),
        by_hand=node.by_hand or None,
    )


def _known_days(
    project: Project, snapshot: Snapshot, commits: Mapping[str, Mapping[Key, Head]]
) -> dict[str, Sequence[Key]]:
    """For every asset all days from the first to the last one that it, or anything upstream of it, knows of; for one
    with other partitions those that have rows or wait for an input."""
    yesterday = snapshot.at.date() - ONE_DAY
    ends: dict[str, set[date]] = {}
    found: dict[str, Sequence[Key]] = {}
    for node in in_dependency_order(project.nodes):
        days = {key for key in commits.get(node.asset, ()) if isinstance(key, date)}
        if node.source is not None:
            state = snapshot.sources[node.source]
            days |= {*state.waiting, *state.accepted, *state.blocked}
        up = set().union(*(ends.get(up, ()) for up in node.upstream))
        edges = ends[node.asset] = {edge(days) for edge in (min, max) if days} | up
        if isinstance(node.keys, Days):
            first, last = node.keys.span(snapshot.at, project.settings.start_date)
            span = (max(min(edges), first), min(max(edges), yesterday, last)) if edges else None
            found[node.asset] = list(days_between(*span)) if span else []
        else:
            found[node.asset] = sorted(commits.get(node.asset, ()), key=str)
    return found


def _source(project: Project, snapshot: Snapshot, spec: SourceSpec, in_bucket: looking.Look | None) -> SourceStatus:
    found = snapshot.scans[spec.name]
    objects = in_bucket.seen.get(spec.name) if in_bucket is not None else None
    return SourceStatus(
        spec.name,
        waiting=len(found.waiting)
        + len(found.early)
        + len(found.undated)
        + len(found.many_days)
        + found.unsettled
        + (objects.waiting if objects is not None else 0),
        quarantined=len(quarantine.still_open(project.settings.quarantine, project.settings.archive, spec)),
        overdue=tuple(day.isoformat() for day in snapshot.overdue(spec)),
        notices=(*snapshot.notices(spec.name), *(in_bucket.notices(spec.name) if in_bucket is not None else ())),
    )


def _newest_runs(instance: dg.DagsterInstance) -> list[dg.RunRecord]:
    """The newest runs that tell something: a landing every minute, where it went well, would hide all others."""
    newest = instance.get_run_records(limit=_LOOKED_AT)
    return [
        record
        for record in newest
        if record.dagster_run.status is dg.DagsterRunStatus.FAILURE
        or not record.dagster_run.tags.items() >= attempts.WITHOUT_DAYS.items()
    ][:_RUNS]


def _run(record: dg.RunRecord) -> RunStatus:
    run = record.dagster_run
    days = utc.days_of_run(run.tags)
    ended = record.end_time or utc.now().timestamp()
    return RunStatus(
        run_id=run.run_id,
        job=run.job_name,
        first=days[0].isoformat() if days else None,
        last=days[1].isoformat() if days else None,
        assets=len(run.asset_selection) if run.asset_selection else None,
        outcome=run.status.value.lower(),
        started_at=_iso(record.start_time),
        seconds=None if record.start_time is None else round(ended - record.start_time, 1),
    )


def _iso(timestamp: float | None) -> str | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds")
