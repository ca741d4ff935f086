"""Verify as a whole: every stored asset against its commits and Dagster's history, and the archive where asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg

from etl_project.proofs.verify import archived, events
from etl_project.proofs.verify.findings import Asked, DaySpan
from etl_project.proofs.verify.targets import Stored
from etl_project.sources import SourceSpec
from etl_project.storage import Finding, Looked, ParquetStore, is_comparable


@dataclass(frozen=True)
class Deep:
    """The archive to hash, and whose files."""

    archive: Path
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Archive:
    """The archive in which nothing may be missing, its sources, and the store of their raw rows."""

    root: Path
    sources: tuple[SourceSpec, ...]
    lake: ParquetStore


@dataclass
class Verified:
    """What was looked at, everything that is wrong, and what could only be counted.

    `counted` are partitions of which only the rows were counted: their fingerprints are of an earlier version.
    """

    assets: list[str] = field(default_factory=list)
    partitions: int = 0
    counted: int = 0
    rows: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """Plain values, for scripts."""
        return asdict(self)


def verify(
    instance: dg.DagsterInstance,
    targets: Sequence[Stored],
    window: DaySpan | None = None,
    *,
    repair: bool = False,
    deep: Deep | None = None,
    archived_by: Archive | None = None,
    on_asset: Callable[[str], None] = lambda _asset: None,
) -> Verified:
    """Compare rows and files, commit records and Dagster's events, of these assets and days; everything at odds.

    Writes nothing, but with `repair` the events that Dagster does not have: those findings are marked as repaired.
    `on_asset` is told of each one once it is compared.
    Raises StoreBusy (retrying helps) when another process holds the warehouse for longer than the wait setting.
    """
    window = window or DaySpan()
    done = Verified()
    for target in targets:
        looked, found = _one(instance, target, window, repair)
        done.assets.append(target.asset)
        done.partitions += len(looked.commits)
        done.counted += sum(not is_comparable(commit) for commit in looked.commits.values())
        done.rows += looked.rows
        done.findings += found
        on_asset(target.asset)
    if archived_by is not None:
        done.findings += archived.losses(archived_by.root, archived_by.sources, archived_by.lake, window)
    if deep is not None:
        done.findings += archived.look(deep.archive, deep.sources, window)
    return done


def _one(instance: dg.DagsterInstance, target: Stored, window: DaySpan, repair: bool) -> tuple[Looked, list[Finding]]:
    """One asset. Dagster is asked first: whatever it knows then was committed before."""
    known = events.known(instance, target)
    looked = target.store.examine(target.table, Asked(target, window))
    found = looked.findings + list(events.findings(instance, target, looked, known, window))
    if not repair:
        return looked, found
    events.repair(instance, target, events.unknown(instance, target, looked, known))
    return looked, [replace(f, repaired=True) if f.kind == "unknown to Dagster" else f for f in found]
