"""What is there right now: files that wait, accepted versions, commits. The eyes of `pending()`.

Belongs here: reading folders and commit records, and turning them into what `pending` compares. A look writes nothing,
and keeps nothing between two looks; `tidy` makes drop folders, and removes files that were taken in and are quiet.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import chain
from math import inf

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.instance import DynamicPartitionsStore
from dagster._core.instance.types import CachingDynamicPartitionsLoader

from etl_project.declare import lake, warehouse
from etl_project.due import pending, readings, unpublished
from etl_project.due.following import FOLLOWS_METADATA, nodes
from etl_project.due.graph import Days, Key
from etl_project.due.pending import Due, Node, Red, SourceState
from etl_project.due.words import keys_in_words
from etl_project.failures import Permanent
from etl_project.settings import Settings
from etl_project.sources import (
    Names,
    SourceSpec,
    admit,
    archive,
    completeness,
    lost,
    notices,
    quarantine,
    scan,
    spread,
    stray,
)
from etl_project.storage import (
    Candidate,
    DuckDBStore,
    Head,
    ParquetStore,
    TableStore,
    asked_again,
    input_hash,
    is_asked_again,
)

__all__ = ["FOLLOWS_METADATA", "Project", "Snapshot", "due", "look", "nodes", "outlook", "selected"]

NOTHING_SEEN = scan.Scan((), (), (), 0, ())


@dataclass(frozen=True)
class Project:
    """The fixed side: settings, sources and the graph of assets."""

    settings: Settings
    sources: tuple[SourceSpec, ...]
    nodes: tuple[Node, ...]
    first_day: date | None = None
    """The first day that the assets were loaded with; None where nobody derived it."""
    broken: tuple[str, ...] = ()
    """What is wrong with pipelines that cannot be loaded, in words."""
    left_out: tuple[str, ...] = ()
    """Assets that read one of a pipeline that cannot be loaded, in words."""

    @property
    def lake(self) -> ParquetStore:
        """The store of the raw files."""
        return lake(self.settings)


class NoSuchAsset(Permanent):
    """The project has no asset of that name. Retrying does not help."""


@dataclass(frozen=True)
class Snapshot:
    """One look at everything, at one instant."""

    at: datetime
    sources: Mapping[str, SourceState]
    scans: Mapping[str, scan.Scan]
    commits: Mapping[tuple[str, Key], Head]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Sources whose drop folder cannot be read, and why. Nothing new is asked of them; the others go on."""
    gone: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Assets whose table is gone: its name, and how many partitions were committed to it."""
    losses: Mapping[str, Mapping[date, str]] = field(default_factory=dict)
    """By source the days of which archived versions are gone that their rows were built from, and what to do."""

    unpublished: Mapping[tuple[str, Key], Candidate] = field(default_factory=dict)
    """The rows that did not pass their checks and wait beside their partition."""

    @property
    def unpublished_in_words(self) -> list[str]:
        """The candidates, for a person."""
        return [
            f"{asset} {'' if key is None else key}".strip() + f": {unpublished.in_words(one)}"
            for (asset, key), one in sorted(self.unpublished.items(), key=str)
        ]

    @property
    def gone_in_words(self) -> list[str]:
        """The tables that are gone, for a person."""
        return [
            f"{asset}: its table {table} is gone, with {count} committed partitions; what has its inputs is built again"
            for asset, (table, count) in sorted(self.gone.items())
        ]

    dynamic: DynamicPartitionsStore | None = None
    """Which dynamic partitions there are, asked once for each name; None where nobody can tell."""
    unusable_keys: tuple[str, ...] = ()
    """Dynamic keys that are never asked for, because no partition of several dimensions can have them, in words."""
    unspread: frozenset[str] = frozenset()
    """Sources with a file that was accepted and is not yet under all of the days that it holds."""
    stray: tuple[str, ...] = ()
    """What lies in incoming/ and in no source's drop folder, in words."""

    @property
    def many_days(self) -> dict[str, tuple[scan.Entry, ...]]:
        """Files that wait and whose rows say their day, by source; also sources with one that was left half done."""
        return {name: found.many_days for name, found in self.scans.items() if found.many_days or name in self.unspread}

    @property
    def undated(self) -> dict[str, tuple[scan.Unplaced, ...]]:
        """Files that belong to no day, by source."""
        return {name: found.undated for name, found in self.scans.items() if found.undated}

    def overdue(self, spec: SourceSpec) -> list[date]:
        """The days of a source whose file has not come by its deadline."""
        state = self.sources[spec.name]
        return completeness.overdue(
            spec, {*state.accepted, *state.waiting, *state.blocked, *self.losses.get(spec.name, ())}, self.at
        )

    def notices(self, source: str) -> list[str]:
        """What lies in the drop folder of the source, or is wrong with it, and keeps files from being taken in."""
        found = self.scans[source]
        folder = [self.unreadable[source]] if source in self.unreadable else []
        return [
            *folder,
            *self._lost(source),
            *notices.passed_over(source, found),
            *notices.being_written(source, found),
        ]

    def _lost(self, source: str) -> list[str]:
        days: dict[str, list[date]] = {}
        for day, why in self.losses.get(source, {}).items():
            days.setdefault(why, []).append(day)
        return [
            f"{source}: {keys_in_words(some)} {'is' if len(some) == 1 else 'are'} not built again: {why}."
            for why, some in days.items()
        ]

    @property
    def lost(self) -> list[str]:
        """The days of all sources of which archived versions are gone, in words."""
        return [told for source in self.losses for told in self._lost(source)]

    @property
    def passed_over(self) -> list[str]:
        """What in the drop folders is no file to take in, and which keys are no partitions, in words."""
        of_files = [told for source, found in self.scans.items() for told in notices.passed_over(source, found)]
        return [*of_files, *self.unusable_keys]

    @property
    def held_up(self) -> list[str]:
        """Everything that keeps files of any source from being taken in, and keys from being built, in words."""
        return [*(told for source in self.scans for told in self.notices(source)), *self.unusable_keys, *self.stray]

    @property
    def being_written(self) -> list[str]:
        """Files that are not taken because a process has them open for writing, in words."""
        return [told for source, found in self.scans.items() for told in notices.being_written(source, found)]

    @property
    def unsettled(self) -> int:
        """Files that are still too young to be touched."""
        return sum(found.unsettled for found in self.scans.values())


def look(
    project: Project,
    now: datetime,
    instance: dg.DagsterInstance | None = None,
    *,
    wait: bool = True,
    longest_wait_seconds: float = inf,
) -> Snapshot:
    """Read everything once. Without an instance, which knows dynamic partitions, nobody may ask what is due of those.

    Raises StoreBusy (retrying helps) while a run holds the warehouse: at once, or with `wait` after the wait setting,
    but no later than `longest_wait_seconds`.
    """
    seen, unreadable = scans(project, now)
    assets = [node.asset for node in project.nodes if node.source is None]
    wait_seconds = min(project.settings.wait_seconds, longest_wait_seconds) if wait else 0
    store = warehouse(project.settings, wait_seconds)
    # Opening the file costs more than what is asked of it.
    with store.kept_open(to_read=True) if isinstance(store, DuckDBStore) else nullcontext():
        in_tables, gone = _of_tables(project, store)
        candidates = dict(_unpublished(project, store))
    commits = dict(_commits(project, chain(project.lake.heads(assets), in_tables)))
    losses: dict[str, dict[date, str]] = {spec.name: {} for spec in project.sources}
    raw = _raw(project, commits)
    states = {
        spec.name: _state(
            project.settings,
            spec,
            seen[spec.name],
            raw[spec.name],
            losses[spec.name],
            listed=spec.name not in unreadable,
        )
        for spec in project.sources
    }
    dynamic = None if instance is None else CachingDynamicPartitionsLoader(instance)
    return Snapshot(
        at=now,
        sources=states,
        scans=seen,
        unreadable=unreadable,
        commits=commits | dict(_to_read_again(project, commits)),
        gone=gone,
        losses=losses,
        unpublished=candidates,
        dynamic=dynamic,
        unusable_keys=() if dynamic is None else tuple(_unusable_keys(project, dynamic)),
        unspread=frozenset(
            spec.name
            for spec in project.sources
            if spec.day_from is not None and spread.unfinished(project.settings.archive, spec)
        ),
        stray=_stray(project),
    )


def _stray(project: Project) -> tuple[str, ...]:
    """Not while a pipeline cannot be loaded: one of these folders may be its."""
    sources = {spec.name for spec in project.sources}
    return () if project.broken else tuple(stray.in_words(project.settings.incoming, sources))


def _of_tables(
    project: Project, store: TableStore
) -> tuple[list[tuple[str, str | None, Head]], dict[str, tuple[str, int]]]:
    """The heads in the warehouse, and the assets whose records say that there are rows, although their table is gone.

    A record without its table says nothing any more: these assets count as never built.
    """
    nodes = {node.asset: node for node in project.nodes if node.source is None}
    found = list(store.heads(nodes))
    recorded = Counter(asset for asset, _, _ in found)
    tables = {asset: nodes[asset].table for asset in recorded if nodes[asset].table}
    gone = {asset: (tables[asset], recorded[asset]) for asset in (store.without_table(tables) if tables else ())}
    return [head for head in found if head[0] not in gone], gone


def _unusable_keys(project: Project, dynamic: DynamicPartitionsStore) -> Iterator[str]:
    """A line for each dynamic key that can be no part of a partition, with the assets that are not built for it."""
    found: dict[tuple[str, str], list[str]] = {}
    for node in project.nodes:
        for one in readings.unusable(node.keys.definition, dynamic) if isinstance(node.keys, readings.Listed) else ():
            found.setdefault(one, []).append(node.asset)
    for (name, key), assets in found.items():
        yield (
            f"{', '.join(assets)}: nothing is built for {key!r}, a key of the dynamic partitions {name!r}: "
            f"{readings.SEPARATOR!r} is what Dagster puts between the dimensions of a key. Give it another name."
        )


def _unpublished(project: Project, tables: TableStore) -> Iterator[tuple[tuple[str, Key], Candidate]]:
    """The candidates of all assets that may have some; where none may, nothing is opened."""
    nodes = {node.asset: node for node in project.nodes if node.published_after_checks}
    for one in [*project.lake.candidates(nodes), *tables.candidates(nodes)] if nodes else ():
        key = nodes[one.record.asset].keys.key(one.record.partition)
        if key is not None:
            yield (one.record.asset, key), one


def _commits(project: Project, heads: Iterable[tuple[str, str | None, Head]]) -> Iterator[tuple[tuple[str, Key], Head]]:
    """The heads by asset and partition, without those of partitions that the asset had under another definition."""
    keys = {node.asset: node.keys for node in project.nodes}
    for asset, text, head in heads:
        key = keys[asset].key(text)
        if key is not None:
            yield (asset, key), head


def _to_read_again(project: Project, commits: Mapping[tuple[str, Key], Head]) -> Iterator[tuple[tuple[str, Key], Head]]:
    """The raw rows whose archive is to be read again. The record of the rejects asks for it, because it lies where a
    contract is applied, in the same transaction; it speaks for the raw rows until they are written anew."""
    for spec in project.sources:
        own = Names.of(spec.name)
        for (asset, key), asks in commits.items():
            raw = commits.get((own.raw, key)) if asset == own.rejects and is_asked_again(asks.input_hash) else None
            if raw is not None and raw.committed_us < asks.committed_us:
                yield (own.raw, key), raw._replace(input_hash=asked_again(raw.input_hash))


def scans(project: Project, now: datetime) -> tuple[dict[str, scan.Scan], dict[str, str]]:
    """What each drop folder holds, and the sources whose folder cannot be read, with the reason."""
    found: dict[str, scan.Scan] = {}
    unreadable: dict[str, str] = {}
    for spec in project.sources:
        folder = project.settings.incoming / spec.name
        try:
            found[spec.name] = scan.scan(folder, spec, now)
        except scan.CannotList as error:
            found[spec.name], unreadable[spec.name] = NOTHING_SEEN, str(error)
            continue
        if not folder.is_dir() and (project.settings.archive / spec.name).is_dir():
            unreadable[spec.name] = notices.removed(spec.name, folder)
    return found, unreadable


def tidy(project: Project, snapshot: Snapshot) -> list[str]:
    """Remove what was taken in and has been quiet from the drop folders; what was in the way, in words.

    Sources of which nothing was seen yet get their drop folder, so that a person finds where files go. One that was
    removed is not made again: whoever removed it has to know that nothing comes in any more.
    """
    for spec in project.sources:
        if spec.name not in snapshot.unreadable:
            with suppress(OSError):  # Whoever brings the first file makes it, or is told why that cannot be.
                (project.settings.incoming / spec.name).mkdir(parents=True, exist_ok=True)
    found = ((spec, snapshot.scans[spec.name]) for spec in project.sources)
    incoming = project.settings.incoming
    return [problem for spec, seen in found for problem in admit.tidy(seen, spec, incoming, snapshot.at)]


def due(project: Project, snapshot: Snapshot, closing: date | None = None, *, red: Red | None = None) -> list[Due]:
    """The runs to ask for in this snapshot; `closing` and `red` as in `pending`."""
    return outlook(project, snapshot, closing, red=red).due


def outlook(
    project: Project,
    snapshot: Snapshot,
    closing: date | None = None,
    *,
    red: Red | None = None,
    through: Iterable[str] = (),
    eventually: bool = False,
    given_up: Iterable[tuple[str, Key]] = (),
) -> pending.Outlook:
    """The runs to ask for in this snapshot, and what is not asked for and why; `eventually` as in `Settings`."""
    how = pending.Settings(
        timedelta(seconds=project.settings.open_day_interval_seconds),
        closing,
        first_day_of(project.settings, snapshot, project.nodes),
        frozenset(through),
        eventually,
        frozenset(given_up),
    )
    if red is not None and snapshot.unpublished:
        red = {**red, **unpublished.verdicts(project.nodes, snapshot.unpublished, snapshot.commits)}
    with partition_loading_context(dynamic_partitions_store=snapshot.dynamic):
        return pending.outlook(project.nodes, snapshot.sources, snapshot.commits, snapshot.at, how, red)


def first_day_of(settings: Settings, snapshot: Snapshot, nodes: Iterable[Node] = ()) -> date:
    """The first day that exists, as the next process finds it when it loads the project (`due.first_day`).

    What `nodes` with other partitions than days have committed does not count.
    """
    if not settings.begins_with_data:
        return settings.start_date
    states = snapshot.sources.values()
    of_sources = (day for state in states for day in (*state.waiting, *state.accepted, *state.blocked))
    others = {node.asset for node in nodes if not isinstance(node.keys, Days)}
    committed = (day for asset, day in snapshot.commits if isinstance(day, date) and asset not in others)
    return max(settings.start_date, min(chain(of_sources, committed), default=settings.start_date))


def selected(project: Project, assets: Collection[str]) -> Project:
    """The project with these assets and everything that they are built of only; all of it where none is named.

    Raises NoSuchAsset (retrying does not help) for a name that nothing has.
    """
    if not assets:
        return project
    by_name = {node.asset: node for node in project.nodes}
    unknown = sorted(set(assets) - by_name.keys())
    if unknown:
        raise NoSuchAsset(f"There is no asset {', '.join(unknown)}; there are {', '.join(sorted(by_name))}.")
    wanted, left = set(assets), list(assets)
    while left:
        upstream = [up for up in by_name[left.pop()].upstream if up not in wanted]
        wanted.update(upstream)
        left += upstream
    return replace(project, nodes=tuple(node for node in project.nodes if node.asset in wanted))


def _raw(project: Project, commits: Mapping[tuple[str, Key], Head]) -> dict[str, dict[date, Head]]:
    """The heads of the raw rows by source and day."""
    found: dict[str, dict[date, Head]] = {spec.name: {} for spec in project.sources}
    source_of = {Names.of(spec.name).raw: spec.name for spec in project.sources}
    for (asset, key), head in commits.items():
        if asset in source_of and isinstance(key, date):
            found[source_of[asset]][key] = head
    return found


def _state(
    settings: Settings,
    spec: SourceSpec,
    found: scan.Scan,
    built: Mapping[date, Head],
    losses: dict[date, str],
    *,
    listed: bool,
) -> SourceState:
    """What a source's folders hold. While the drop folder cannot be `listed`, nobody knows which days are empty.

    A day that is not what it was built from counts as one whose files are gone, and is among the `losses`: its rows
    stay.
    """
    by_day: dict[date, list[scan.Waiting]] = {}
    for file in found.waiting:
        by_day.setdefault(file.day, []).append(file)
    return SourceState(
        waiting={day: _identity(files) for day, files in by_day.items()},
        accepted=dict(_accepted(settings, spec, built, losses)),
        blocked=frozenset(quarantine.open_days(settings.quarantine, settings.archive, spec)),
        empty_fingerprint=archive.fingerprint(()) if spec.empty_days == "allowed" and listed else None,
    )


def _accepted(
    settings: Settings, spec: SourceSpec, built: Mapping[date, Head], losses: dict[date, str]
) -> Iterator[tuple[date, str]]:
    """The days of the archive with what they hold, but for the `losses`: days that differ from what their raw rows were
    built from because versions are gone; others differ because versions have come since. `built`: those raw rows."""
    own = Names.of(spec.name)
    there: set[date] = set()
    for day, versions in archive.each_day(settings.archive, spec):
        fingerprint = archive.fingerprint(archive.counting(versions, spec))
        head = built.get(day) if day >= spec.start_date else None
        reason = None
        if head is not None and head.input_hash != input_hash([(own.files, day.isoformat(), fingerprint)]):
            reason = lost.why(spec, versions, day, head.input_hash)
        there.add(day)
        if reason is None:
            yield day, fingerprint
        else:
            losses[day] = reason
    nothing = archive.fingerprint(())
    for day, head in built.items():
        if day >= spec.start_date and day not in there and lost.all_of_it(spec, day, head.input_hash, nothing):
            losses[day] = lost.ALL_GONE


def _identity(files: Iterable[scan.Waiting]) -> str:
    """Names which files wait, without reading them: another file, or another version of one, is another request."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.mtime_ns}\0{file.size}\0{file.inode}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
