"""Rebuild: partitions that a person asks for, whether anything is due or not.

Belongs here: which partitions of which assets that is, the runs that build them, and making those runs. What is due by
itself, and what reads the rebuilt rows, is `pending`'s and a drain's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import chain
from typing import NamedTuple

from dagster._core.definitions.partitions.context import partition_loading_context

from etl_project.declare import warehouse
from etl_project.due.drain import MOST_FAILURES_IN_A_ROW, Drained, OnRun
from etl_project.due.execution import Deployment, execute
from etl_project.due.graph import Key, Node, text_of
from etl_project.due.pending import Due, Outlook, runs_for
from etl_project.due.snapshot import NoSuchAsset, Project, Snapshot
from etl_project.due.words import keys_in_words
from etl_project.failures import Permanent
from etl_project.storage import ALLOW_CHANGE_TAG, ALLOW_SHRINK_TAG, ALLOW_UNCHECKED_TAG


class NothingAskedFor(Permanent):
    """A rebuild names neither an asset nor what is stale, or days of which there are none. Retrying does not help."""


@dataclass(frozen=True)
class Span:
    """The days from `first` to `last`, both included; of other partitions those that begin within them."""

    first: date | None = None
    last: date | None = None

    def __post_init__(self) -> None:
        """Raises NothingAskedFor where the last day comes before the first."""
        if self.first is not None and self.last is not None and self.last < self.first:
            raise NothingAskedFor(
                f"--from {self.first} comes after --to {self.last}: no day is from the one to the other. Name the "
                "earlier day first. Retrying does not help."
            )

    def __contains__(self, key: Key) -> bool:
        day = str(key)[:10]
        return (self.first is None or str(self.first) <= day) and (self.last is None or day <= str(self.last))


@dataclass(frozen=True)
class Plan:
    """The runs of a rebuild, and what is left out because it has no input: it stays as it is, and nothing fails."""

    runs: Sequence[Due]
    left_out: Sequence[str]


class Outdated(NamedTuple):
    """A partition whose `rows` rows were built by another code version than the asset has `now`; None: by none."""

    asset: str
    key: Key
    made_by: str | None
    now: str
    rows: int


def plan(project: Project, snapshot: Snapshot, ahead: Outlook, assets: Collection[str], span: Span) -> Plan:
    """Rebuild these assets over the span: every partition that is committed, or has what it reads.

    Raises NoSuchAsset (retrying does not help) for a name that nothing has, or that takes files in.
    """
    wanted = _named(project, assets)
    could = _with_inputs(project, snapshot, ahead, {node.asset for node in wanted}) | snapshot.commits.keys()
    chosen: dict[str, set[Key]] = {}
    left_out = []
    for node in wanted:
        with partition_loading_context(dynamic_partitions_store=snapshot.dynamic):
            there = [key for key in node.keys.existing(snapshot.at, project.settings.start_date) if key in span]
        chosen[node.asset] = {key for key in there if (node.asset, key) in could}
        without = [key for key in there if key not in chosen[node.asset]]
        if without and span.first is not None:
            left_out.append(f"{node.asset} {keys_in_words(without)}: left out, it has no input to be built of")
    return Plan(_runs(project, snapshot, chosen), left_out)


def _with_inputs(project: Project, snapshot: Snapshot, ahead: Outlook, names: Collection[str]) -> set[tuple[str, Key]]:
    """What is due or held and has what it reads, or gets it from one of these assets, which are built as well."""
    upstream = {node.asset: set(node.upstream) for node in project.nodes}

    def is_there(asset: str, key: Key) -> bool:
        return asset in names or (asset, key) in snapshot.commits

    due = {
        (asset, key)
        for one in ahead.due
        for asset in one.assets
        for key in one.keys
        if all(is_there(read, key) for read in upstream.get(asset, set()).intersection(one.assets))
    }
    return due | {
        (asset, key)
        for asset, held in ahead.held.items()
        for key, waits in held.items()
        if is_there(waits.asset, waits.key)
    }


def stale(project: Project, snapshot: Snapshot, assets: Collection[str], span: Span) -> Plan:
    """Rebuild what was committed by other code, or under another contract, than the assets have now.

    Raises NoSuchAsset as `plan`, and StoreBusy (retrying helps) while a run holds the warehouse.
    """
    return Plan(runs_of(project, snapshot, outdated(project, snapshot, assets, span)), [])


def outdated(project: Project, snapshot: Snapshot, assets: Collection[str], span: Span) -> list[Outdated]:
    """Which partitions other code committed than the assets have now. Raises as `stale`."""
    wanted = {node.asset: node for node in (_named(project, assets) if assets else project.nodes)}
    commits = chain(
        warehouse(project.settings).last_commits(wanted).values(), project.lake.last_commits(wanted).values()
    )
    found = []
    for commit in commits:
        node = wanted[commit.asset]
        key = node.keys.key(commit.partition)
        # Of rows that were brought back, the code that had given the ones in their place: they are held against it.
        made_by = commit.code_version if commit.restored is None else commit.restored.code_version
        differs = node.code_version and made_by != node.code_version
        if key is not None and differs and key in span and (node.asset, key) in snapshot.commits:
            found.append(Outdated(node.asset, key, made_by, node.code_version, commit.rows))
    return found


def runs_of(project: Project, snapshot: Snapshot, which: Iterable[Outdated]) -> list[Due]:
    """The runs that build these partitions again."""
    chosen: dict[str, set[Key]] = {}
    for one in which:
        chosen.setdefault(one.asset, set()).add(one.key)
    return _runs(project, snapshot, chosen)


def rebuild(
    deployment: Deployment,
    runs: Iterable[Due],
    on_run: OnRun,
    *,
    allow_shrink: bool = False,
    allow_change: bool = False,
    allow_unchecked: bool = False,
) -> Drained:
    """Make these runs; of one that fails, its halves, so that only the partitions at fault stay as they were.

    A kill leaves what was committed. What another process holds is named, and ends it.
    """
    done, left = Drained(), deque(runs)
    allowed = {
        ALLOW_SHRINK_TAG: allow_shrink,
        ALLOW_CHANGE_TAG: allow_change,
        ALLOW_UNCHECKED_TAG: allow_unchecked,
    }
    tags = {tag: "true" for tag, meant in allowed.items() if meant}
    while left and done.failures_in_a_row < MOST_FAILURES_IN_A_ROW and done.busy is None:
        one = left.popleft()
        on_run(one, None)
        ended = execute(deployment, one, tags)
        done.note(one, ended)
        on_run(one, ended)
        if not ended.success and ended.held_by_others is None:
            left.extendleft(reversed(one.halves()))
    return done


def _named(project: Project, assets: Collection[str]) -> list[Node]:
    by_name = {node.asset: node for node in project.nodes if node.source is None}
    unknown = sorted(set(assets) - by_name.keys())
    if unknown:
        raise NoSuchAsset(
            f"There is no asset {', '.join(unknown)} that can be rebuilt; there are {', '.join(sorted(by_name))}."
        )
    return [node for name, node in by_name.items() if name in assets]


def _runs(project: Project, snapshot: Snapshot, chosen: Mapping[str, Collection[Key]]) -> list[Due]:
    """The runs over these partitions. Their state is of this very moment, so no earlier failure counts against them."""
    why = f"rebuild at {snapshot.at.isoformat()}"
    due = {asset: {key: f"{why} {text_of(key)}" for key in keys} for asset, keys in chosen.items()}
    return runs_for(project.nodes, due, snapshot.at)
