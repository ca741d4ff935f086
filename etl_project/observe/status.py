"""Status: per asset, what is committed, failed, stale and missing; per source, what waits and what was refused.

Belongs here: computing it from one look. Does not belong here: printing (`observe.cli`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

from etl_project import runs
from etl_project.drain import Deployment
from etl_project.incoming import quarantine
from etl_project.partitions import days_between
from etl_project.situation import Situation, due


@dataclass(frozen=True)
class AssetStatus:
    """One asset. Days are counted; `last_commit` is UTC in ISO form."""

    asset: str
    committed: int
    failed: int
    missing: int
    stale: int
    rows: int
    last_commit: str | None


@dataclass(frozen=True)
class SourceStatus:
    """One source's files: those that wait (unsettled ones included) and those in quarantine."""

    source: str
    waiting: int
    quarantined: int


@dataclass(frozen=True)
class Status:
    """Everything at one instant (UTC)."""

    at: str
    assets: tuple[AssetStatus, ...]
    sources: tuple[SourceStatus, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values, for scripts."""
        return asdict(self)


def status(deployment: Deployment, situation: Situation) -> Status:
    """The state of every asset and source in this situation.

    Failed: due, and the last run that was asked for in the same state failed. Stale: committed, but its inputs have
    changed since. Missing: neither committed nor failed, between the first and the last day that anybody knows of.
    """
    project = deployment.project
    failed: dict[str, set[date]] = {}
    stale: dict[str, set[date]] = {}
    for one in due(project, situation):
        marks = failed if any(attempt.failed for attempt in runs.attempts(deployment.instance, one.state)) else stale
        for asset in one.assets:
            marks.setdefault(asset, set()).update(days_between(one.first, one.last))
    known = _known_days(situation)
    return Status(
        at=situation.at.isoformat(timespec="seconds"),
        assets=tuple(
            _asset(node.asset, situation, known, failed.get(node.asset, set()), stale.get(node.asset, set()))
            for node in project.nodes
            if node.source is None
        ),
        sources=tuple(
            SourceStatus(
                spec.name,
                waiting=_waiting(situation, spec.name),
                quarantined=len(quarantine.listing(project.settings.quarantine, spec.name)),
            )
            for spec in project.sources
        ),
    )


def _asset(asset: str, situation: Situation, known: set[date], failed: set[date], stale: set[date]) -> AssetStatus:
    commits = {day: commit for (name, day), commit in situation.commits.items() if name == asset}
    last = max((commit.committed_at for commit in commits.values()), default=None)
    return AssetStatus(
        asset=asset,
        committed=len(commits),
        failed=len(failed),
        missing=len(known - commits.keys() - failed),
        stale=len(stale & commits.keys()),
        rows=sum(commit.rows for commit in commits.values()),
        last_commit=last.isoformat(timespec="seconds") if last else None,
    )


def _known_days(situation: Situation) -> set[date]:
    """Every day from the first to the last one that has a file or a commit, today left out while it is open."""
    days = {day for _, day in situation.commits}
    for state in situation.sources.values():
        days |= {*state.waiting, *state.accepted, *state.blocked}
    if not days:
        return set()
    return set(days_between(min(days), min(max(days), situation.at.date() - timedelta(days=1))))


def _waiting(situation: Situation, source: str) -> int:
    found = situation.scans[source]
    return len(found.waiting) + len(found.early) + len(found.undated) + found.unsettled
