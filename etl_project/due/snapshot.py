"""What is there right now: files that wait, accepted versions, commits. The eyes of `pending()`.

Belongs here: reading folders and commit records, and turning them into what `pending` compares. A look writes nothing,
and keeps nothing between two looks; files that were taken in and have been quiet are removed by `tidy`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import chain
from math import inf

import dagster as dg

from etl_project.due.pending import SAME_DAY, Due, Node, SourceState, Window, pending
from etl_project.settings import Settings
from etl_project.sources import completeness
from etl_project.sources.assets import SOURCE_METADATA
from etl_project.sources.intake import admit, archive, notices, quarantine, scan
from etl_project.sources.spec import SourceSpec
from etl_project.storage import DuckDBStore, ParquetStore
from etl_project.storage.dagster.io_manager import ABSENT_PARTITIONS
from etl_project.storage.heads import Head, of_files, of_tables
from etl_project.utc import day_of

FOLLOWS_METADATA = "etl/follows_inputs"
"""Asset metadata: False keeps an asset out of `pending()`; it is then rebuilt by hand only."""

NOTHING_SEEN = scan.Scan((), (), (), 0, ())


@dataclass(frozen=True)
class Project:
    """The fixed side: settings, sources and the graph of daily assets."""

    settings: Settings
    sources: tuple[SourceSpec, ...]
    nodes: tuple[Node, ...]

    @property
    def lake(self) -> ParquetStore:
        """The store of the raw files."""
        return ParquetStore(self.settings.lake, cache=self.settings.cache)


@dataclass(frozen=True)
class Snapshot:
    """One look at everything, at one instant."""

    at: datetime
    sources: Mapping[str, SourceState]
    scans: Mapping[str, scan.Scan]
    commits: Mapping[tuple[str, date], Head]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Sources whose drop folder cannot be read, and why. Nothing new is asked of them; the others go on."""

    @property
    def undated(self) -> dict[str, tuple[scan.Unplaced, ...]]:
        """Files that belong to no day, by source."""
        return {name: found.undated for name, found in self.scans.items() if found.undated}

    def overdue(self, spec: SourceSpec) -> list[date]:
        """The days of a source whose file has not come by its deadline."""
        state = self.sources[spec.name]
        return completeness.overdue(spec, {*state.accepted, *state.waiting, *state.blocked}, self.at)

    def notices(self, source: str) -> list[str]:
        """What lies in the drop folder of the source, or is wrong with it, and keeps files from being taken in."""
        found = self.scans[source]
        folder = [self.unreadable[source]] if source in self.unreadable else []
        return [*folder, *notices.passed_over(source, found), *notices.being_written(source, found)]

    @property
    def passed_over(self) -> list[str]:
        """What in the drop folders is no file to take in, in words."""
        return [told for source, found in self.scans.items() for told in notices.passed_over(source, found)]

    @property
    def held_up(self) -> list[str]:
        """Everything that keeps files of any source from being taken in, in words."""
        return [told for source in self.scans for told in self.notices(source)]

    @property
    def being_written(self) -> list[str]:
        """Files that are not taken because a process has them open for writing, in words."""
        return [told for source, found in self.scans.items() for told in notices.being_written(source, found)]

    @property
    def unsettled(self) -> int:
        """Files that are still too young to be touched."""
        return sum(found.unsettled for found in self.scans.values())


def look(project: Project, now: datetime, *, wait: bool = True, longest_wait_seconds: float = inf) -> Snapshot:
    """Read everything once.

    Raises StoreBusy (retrying helps) while a run holds the warehouse: at once, or with `wait` after the wait setting,
    but no later than `longest_wait_seconds`.
    """
    scans, unreadable = _scans(project, now)
    assets = [node.asset for node in project.nodes if node.source is None]
    wait_seconds = min(project.settings.wait_seconds, longest_wait_seconds) if wait else 0
    warehouse = DuckDBStore(project.settings.warehouse, wait_seconds=wait_seconds)
    heads = chain(of_files(project.lake, assets), of_tables(warehouse, assets))
    return Snapshot(
        at=now,
        sources={
            spec.name: _state(project.settings, spec, scans[spec.name], listed=spec.name not in unreadable)
            for spec in project.sources
        },
        scans=scans,
        unreadable=unreadable,
        commits={(asset, day_of(key)): head for asset, key, head in heads if key is not None},
    )


def _scans(project: Project, now: datetime) -> tuple[dict[str, scan.Scan], dict[str, str]]:
    """What each drop folder holds, and the sources whose folder cannot be read, with the reason."""
    scans: dict[str, scan.Scan] = {}
    unreadable: dict[str, str] = {}
    for spec in project.sources:
        folder = project.settings.incoming / spec.name
        try:
            scans[spec.name] = scan.scan(folder, spec, now)
        except scan.CannotList as error:
            scans[spec.name], unreadable[spec.name] = NOTHING_SEEN, str(error)
        if not folder.is_dir() and (project.settings.archive / spec.name).is_dir():
            unreadable[spec.name] = notices.removed(spec.name, folder)
    return scans, unreadable


def tidy(project: Project, snapshot: Snapshot) -> list[str]:
    """Remove what was taken in and has been quiet from the drop folders; what was in the way, in words."""
    found = ((spec, snapshot.scans[spec.name]) for spec in project.sources)
    incoming = project.settings.incoming
    return [problem for spec, seen in found for problem in admit.tidy(seen, spec, incoming, snapshot.at)]


def due(project: Project, snapshot: Snapshot, closing: date | None = None) -> list[Due]:
    """The runs to ask for in this snapshot; `closing` as in `pending`."""
    interval = timedelta(seconds=project.settings.open_day_interval_seconds)
    return pending(
        project.nodes,
        snapshot.sources,
        snapshot.commits,
        snapshot.at,
        interval,
        closing=closing,
        first_day=project.settings.start_date,
    )


def nodes(definitions: dg.Definitions) -> tuple[Node, ...]:
    """The daily assets of the definitions as `pending` sees them."""
    daily = {
        spec.key: (spec, declared)
        for declared in definitions.assets or ()
        if isinstance(declared, dg.AssetsDefinition)
        for spec in declared.specs
        if isinstance(spec.partitions_def, dg.DailyPartitionsDefinition)
    }
    return tuple(_node(spec, declared, daily.keys()) for _, (spec, declared) in sorted(daily.items()))


def _node(spec: dg.AssetSpec, declared: dg.AssetsDefinition, daily: Set[dg.AssetKey]) -> Node:
    """An asset follows its inputs only where all of them are daily too, and are read by the day or a window of days.

    One that reads its own earlier days does not: each rebuilt day would ask for all days after it, without end. It is
    rebuilt by hand.
    """
    read = {dep.asset_key for dep in spec.deps}
    upstream = read - {spec.key}
    windows = {key: _window(declared, key) for key in upstream & daily}
    return Node(
        asset=spec.key.to_user_string(),
        upstream=tuple(sorted(key.to_user_string() for key in windows)),
        source=spec.metadata.get(SOURCE_METADATA),
        follows_inputs=bool(spec.metadata.get(FOLLOWS_METADATA, True))
        and spec.key not in read
        and upstream <= daily
        and None not in windows.values(),
        code_version=spec.code_version or "",
        windows={key.to_user_string(): w for key, w in windows.items() if w is not None and w != SAME_DAY},
    )


def _window(declared: dg.AssetsDefinition, upstream: dg.AssetKey) -> Window | None:
    """The upstream days that a day reads, by its partition mapping; None where that is no window of days."""
    mapping = declared.get_partition_mapping_for_dep(upstream)
    if mapping is None or isinstance(mapping, dg.IdentityPartitionMapping):
        return SAME_DAY
    if not isinstance(mapping, dg.TimeWindowPartitionMapping):
        return None
    names = {key: name for name, key in declared.keys_by_input_name.items()}
    metadata = declared.op.ins[names[upstream]].metadata or {}
    absent = metadata.get(ABSENT_PARTITIONS) == "allowed"
    may_not_exist = mapping.allow_nonexistent_upstream_partitions
    return Window(mapping.start_offset, mapping.end_offset, absent, may_not_exist)


def _state(settings: Settings, spec: SourceSpec, found: scan.Scan, *, listed: bool) -> SourceState:
    """What a source's folders hold. While the drop folder cannot be `listed`, nobody knows which days are empty."""
    by_day: dict[date, list[scan.Waiting]] = {}
    for file in found.waiting:
        by_day.setdefault(file.day, []).append(file)
    return SourceState(
        waiting={day: _identity(files) for day, files in by_day.items()},
        accepted={
            day: archive.fingerprint(versions)
            for day, versions in archive.accepted_days(settings.archive, spec).items()
        },
        blocked=frozenset(quarantine.open_days(settings.quarantine, settings.archive, spec)),
        empty_fingerprint=archive.fingerprint(()) if spec.empty_days == "allowed" and listed else None,
    )


def _identity(files: Iterable[scan.Waiting]) -> str:
    """Names which files wait, without reading them: another file, or another version of one, is another request."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.mtime_ns}\0{file.size}\0{file.inode}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
