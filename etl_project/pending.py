"""What is due, and in which runs: pure functions over what is there.

Work is derived, never stored: `pending()` compares what should be (files that wait, accepted file versions, the
fingerprints of what each asset reads) with what is (the last commit of every asset and day). The sensor, the schedule
and `etl drain` all call it, so a crash anywhere, a backfill of one table by hand or a restored backup all converge.

Does not belong here: reading folders, databases or clocks; `observe.state` gathers those and passes them in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise

from etl_project.partitions import ONE_DAY, days_between, neighbours
from etl_project.storage.base import UNKNOWN, input_hash


@dataclass(frozen=True)
class Node:
    """One daily asset: what it reads, and whether new input asks for a new commit.

    `source` marks the asset that takes files in: it is due when a file waits, and what it offers downstream is the
    fingerprint of the accepted versions instead of a commit.
    """

    asset: str
    upstream: tuple[str, ...] = ()
    source: str | None = None
    follows_inputs: bool = True
    code_version: str = ""


@dataclass(frozen=True)
class SourceState:
    """What a source's folders hold: settled files that wait, accepted versions, and days a refused file blocks."""

    waiting: Mapping[date, str] = field(default_factory=dict)
    accepted: Mapping[date, str] = field(default_factory=dict)
    blocked: frozenset[date] = frozenset()
    empty_fingerprint: str | None = None
    """What an empty day's input hashes to; None where a day without a file is missing rather than empty."""
    longest_empty_gap_days: int = 31


@dataclass(frozen=True)
class Head:
    """The last commit of one asset and day, as far as `pending` needs it."""

    input_hash: str
    fingerprint: str
    committed_at: datetime


@dataclass(frozen=True, order=True)
class Due:
    """One run to ask for: these assets over the days from `first` to `last`, both included.

    `state` names what made them due (inputs and code): the same state is the same request, for ever.
    """

    first: date
    last: date
    assets: tuple[str, ...]
    state: str


Heads = Mapping[tuple[str, date], Head]


def pending(
    nodes: Iterable[Node],
    sources: Mapping[str, SourceState],
    heads: Heads,
    now: datetime,
    open_day_interval: timedelta,
    closing: date | None = None,
) -> list[Due]:
    """Exactly the runs that bring every commit in line with its inputs; none when nothing is due.

    A day of an asset is due when a settled file waits for it, when the hash of its inputs differs from the one in its
    last commit, or when it has inputs and was never committed. Days after today (UTC) are never due; today is due at
    most once in `open_day_interval`. Neighbouring days that are due in the same assets are one run. `closing` is a day
    that somebody declares closed: without a file it is empty, where its source allows that.
    """
    ordered = in_dependency_order(nodes)
    reasons = _reasons(ordered, sources, heads, now, open_day_interval, closing)
    by_group: dict[frozenset[str], list[date]] = {}
    for day, due in reasons.items():
        for island in _islands(ordered):
            group = frozenset(node.asset for node in island if node.asset in due and node.source is None)
            if any(node.asset in due for node in island):
                by_group.setdefault(group, []).append(day)
    return sorted(
        _run(group, first, last, ordered, reasons)
        for group, days in by_group.items()
        for first, last in neighbours(days)
    )


def _run(
    group: frozenset[str], first: date, last: date, ordered: list[Node], reasons: Mapping[date, Mapping[str, str]]
) -> Due:
    """One range run. Assets that take files in join it where a file waits on any of its days.

    On the other days they find nothing to do; leaving them out would split the range at every day without a file.
    """
    days = list(days_between(first, last))
    reading = {up for node in ordered if node.asset in group for up in node.upstream}
    nodes = [
        node
        for node in ordered
        if node.asset in group
        or (node.source and (node.asset in reading or not group) and any(node.asset in reasons[day] for day in days))
    ]
    why = [[str(day), [reasons[day].get(node.asset) for node in nodes]] for day in days]
    assets = tuple(node.asset for node in nodes)
    return Due(first, last, assets, _digest([assets, [node.code_version for node in nodes], why]))


def expected_empty_days(state: SourceState, today: date, closing: date | None = None) -> set[date]:
    """Closed days without a file that a source calls empty: gaps between days that have one, up to a sane length.

    Longer gaps, and everything after the last file, stay missing: nobody said that the shop was closed. The daily
    schedule does say it, of the one day that it closes.
    """
    if state.empty_fingerprint is None:
        return set()
    known = sorted({*state.waiting, *state.accepted})
    gaps = (
        days_between(before + ONE_DAY, after - ONE_DAY)
        for before, after in pairwise(known)
        if (after - before).days - 1 <= state.longest_empty_gap_days
    )
    empty = {day for gap in gaps for day in gap}
    if closing is not None and known and known[0] < closing and closing not in known:
        empty.add(closing)
    return {day for day in empty if day < today} - state.blocked


def in_dependency_order(nodes: Iterable[Node]) -> list[Node]:
    """The nodes so that each comes after all it reads; ties by name. Upstreams that are not nodes do not count."""
    left = {node.asset: node for node in sorted(nodes, key=lambda node: node.asset)}
    ordered: list[Node] = []
    while left:
        ready = [node for node in left.values() if not any(up in left for up in node.upstream)]
        if not ready:
            raise ValueError(f"These assets read each other in a circle: {', '.join(left)}.")
        ordered += ready
        for node in ready:
            del left[node.asset]
    return ordered


def _reasons(
    ordered: list[Node],
    sources: Mapping[str, SourceState],
    heads: Heads,
    now: datetime,
    open_day_interval: timedelta,
    closing: date | None,
) -> dict[date, dict[str, str]]:
    """For every day the assets that are due, each with the input state that makes it so."""
    today = now.date()
    days: set[date] = {day for _, day in heads}
    empty: dict[str, set[date]] = {}
    for name, state in sources.items():
        empty[name] = expected_empty_days(state, today, closing)
        days |= {*state.waiting, *state.accepted, *empty[name]}
    return {
        day: due
        for day in sorted(days)
        if day <= today and (due := _due_on(day, ordered, sources, empty, heads))
        if day < today or not _rebuilt_since(day, due, ordered, heads, now - open_day_interval)
    }


def _due_on(
    day: date,
    ordered: list[Node],
    sources: Mapping[str, SourceState],
    empty: Mapping[str, set[date]],
    heads: Heads,
) -> dict[str, str]:
    """The assets due on one day, upstream before downstream, each with the state of its inputs."""
    due: dict[str, str] = {}
    offers: dict[str, str | None] = {}  # What each asset has to offer on this day; None: nothing to read.
    for node in ordered:
        head = heads.get((node.asset, day))
        if node.source is not None:
            state = sources[node.source]
            offers[node.asset] = state.accepted.get(day) or _empty_offer(node, state, day, empty, heads, ordered)
            if day in state.waiting:
                due[node.asset] = state.waiting[day]
            continue
        offers[node.asset] = head.fingerprint if head else None
        if not node.follows_inputs or not node.upstream:
            continue
        changed = [up for up in node.upstream if up in due]
        inputs = {up: offers.get(up) for up in node.upstream}
        if any(fingerprint is None for up, fingerprint in inputs.items() if up not in due):
            continue  # An input is missing, not empty: there is nothing to build from yet.
        expected = input_hash((up, day.isoformat(), fingerprint) for up, fingerprint in inputs.items() if up not in due)
        if changed:
            due[node.asset] = _digest([[due[up] for up in changed], expected])
        elif head is None or head.input_hash not in (expected, UNKNOWN):
            due[node.asset] = expected
    return due


def _empty_offer(
    node: Node, state: SourceState, day: date, empty: Mapping[str, set[date]], heads: Heads, ordered: list[Node]
) -> str | None:
    """A day without a file offers the empty input where it is known to be empty, or was committed as such."""
    if state.empty_fingerprint is None or day in state.blocked:
        return None
    committed = any((reader.asset, day) in heads for reader in ordered if node.asset in reader.upstream)
    return state.empty_fingerprint if committed or day in empty[node.source or ""] else None


def _rebuilt_since(day: date, due: Iterable[str], ordered: list[Node], heads: Heads, since: datetime) -> bool:
    """Whether what is due on the open day, or what reads it directly, was committed after `since`."""
    asked = set(due)
    sources = {node.asset for node in ordered if node.source is not None}
    watched = (asked - sources) or {
        reader.asset for reader in ordered for up in reader.upstream if up in asked & sources
    }
    committed = [heads[asset, day].committed_at for asset in watched if (asset, day) in heads]
    return len(committed) == len(watched) and bool(committed) and min(committed) > since


def _islands(ordered: list[Node]) -> list[list[Node]]:
    """The graph as groups of assets that have nothing to do with each other: each may fail without the others."""
    islands: list[list[Node]] = []
    for node in ordered:
        touching = [island for island in islands if any(other.asset in node.upstream for other in island)]
        islands = [island for island in islands if island not in touching]
        islands.append([*(other for island in touching for other in island), node])
    return islands


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
