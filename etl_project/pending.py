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
class Window:
    """The upstream days that a day reads: `first` to `last` days after it; `may_be_absent`: those that exist."""

    first: int = 0
    last: int = 0
    may_be_absent: bool = False


SAME_DAY = Window()


@dataclass(frozen=True)
class Node:
    """One daily asset: what it reads, and whether new input asks for a new commit.

    `source` marks the asset that takes files in: it is due when a file waits, and what it offers downstream is the
    fingerprint of the accepted versions instead of a commit. `windows` names the upstreams that are not read on the
    same day alone.
    """

    asset: str
    upstream: tuple[str, ...] = ()
    source: str | None = None
    follows_inputs: bool = True
    code_version: str = ""
    windows: Mapping[str, Window] = field(default_factory=dict)


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
    *,
    closing: date | None = None,
    first_day: date = date.min,
) -> list[Due]:
    """Exactly the runs that bring every commit in line with its inputs; none when nothing is due.

    A day of an asset is due when a settled file waits for it, when the hash of its inputs differs from the one in its
    last commit, or when it has inputs and was never committed. Days after today (UTC) and before `first_day` are never
    due; today is due at most once in `open_day_interval`. Neighbouring days that are due in the same assets are one
    run. What reads other days than its own is asked for once those are built. `closing` is a day that somebody
    declares closed: without a file it is empty, where its source allows that.
    """
    ordered = in_dependency_order(nodes)
    today = now.date()
    days = (first_day, today)
    reasons = _reasons(ordered, sources, heads, today, days, closing)
    if today in reasons and _rebuilt_since(today, reasons[today], ordered, heads, now - open_day_interval):
        # As if nothing had come for today: what it waits for must not hold up the days that read today's rows.
        reasons = _reasons(ordered, sources, heads, today, (first_day, today - ONE_DAY), closing)
    if not reasons:
        return []
    by_group: dict[frozenset[str], list[date]] = {}
    islands = _islands(ordered)
    for day, due_then in reasons.items():
        for island in islands:
            group = frozenset(node.asset for node in island if node.asset in due_then and node.source is None)
            if any(node.asset in due_then for node in island):
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
    today: date,
    days: tuple[date, date],
    closing: date | None,
) -> dict[date, dict[str, str]]:
    """For every day from the first to the last of `days` the assets that are due, each with the input state that makes
    it so."""
    committed: dict[str, dict[date, Head]] = {node.asset: {} for node in ordered}
    for (asset, day), head in heads.items():
        if asset in committed and day <= today:
            committed[asset][day] = head
    found = _Found({}, {}, {})
    for node in ordered:
        if node.source is not None:
            readers = {day for reader in ordered if node.asset in reader.upstream for day in committed[reader.asset]}
            found.take_source(node, sources[node.source], days, _empty(sources[node.source], today, readers, closing))
        else:
            found.take(node, committed[node.asset], days)
    reasons: dict[date, dict[str, str]] = {}
    for asset, due in found.due.items():
        for day, reason in due.items():
            reasons.setdefault(day, {})[asset] = reason
    return reasons


def _empty(state: SourceState, today: date, committed: set[date], closing: date | None) -> set[date]:
    """The days that offer the empty input: known to be empty, or committed as such."""
    if state.empty_fingerprint is None:
        return set()
    return (expected_empty_days(state, today, closing) | committed) - state.blocked


@dataclass
class _Found:
    """What is known of the assets so far, upstream first: what each day offers, is due for, or has to wait with."""

    offers: dict[str, dict[date, str | None]]
    due: dict[str, dict[date, str]]
    held: dict[str, set[date]]

    def take_source(self, node: Node, state: SourceState, days: tuple[date, date], empty: set[date]) -> None:
        """Add an asset that takes files in: due where a file waits."""
        offers: dict[date, str | None] = dict.fromkeys(empty, state.empty_fingerprint)
        self.offers[node.asset] = offers | dict(state.accepted)
        self.due[node.asset] = {day: files for day, files in state.waiting.items() if days[0] <= day <= days[1]}
        self.held[node.asset] = set()

    def take(self, node: Node, committed: Mapping[date, Head], days: tuple[date, date]) -> None:
        """Add an asset whose upstreams are all there: due where its inputs ask for a commit."""
        self.offers[node.asset] = {day: head.fingerprint for day, head in committed.items()}
        self.due[node.asset], self.held[node.asset] = {}, set()
        if not node.follows_inputs or not node.upstream:
            return
        for day in sorted(self.days_within_reach(node)):
            if not days[0] <= day <= days[1]:
                continue
            reason = self.reason(node, day, committed.get(day))
            if reason is None:
                continue
            if self.waits(node, day):
                self.held[node.asset].add(day)
            else:
                self.due[node.asset][day] = reason

    def days_within_reach(self, node: Node) -> set[date]:
        """The days that read at least one upstream day which offers something or will."""
        days: set[date] = set()
        for up in self._known(node):
            window = node.windows.get(up, SAME_DAY)
            there = self.offers[up].keys() | self.due[up].keys()
            days.update(*({day - after * ONE_DAY for day in there} for after in range(window.first, window.last + 1)))
        return days

    def reason(self, node: Node, day: date, head: Head | None) -> str | None:
        """The state of the inputs when it asks for a commit; None when it does not, or an input is missing."""
        changed: list[str] = []
        read: list[tuple[str, str, str | None]] = []
        for up in node.upstream:
            window = node.windows.get(up, SAME_DAY)
            for that in _days_read(day, window):
                due = self.due.get(up, {}).get(that)
                offered = self.offers.get(up, {}).get(that)
                if due is not None:
                    changed.append(due)
                elif offered is not None:
                    read.append((up, that.isoformat(), offered))
                elif not window.may_be_absent:
                    return None  # An input is missing, not empty: there is nothing to build from yet.
        expected = input_hash(read)
        if changed:
            return _digest([changed, expected])
        return expected if read and (head is None or head.input_hash not in (expected, UNKNOWN)) else None

    def waits(self, node: Node, day: date) -> bool:
        """Whether another day that it reads is still to be built, or something upstream waits for such a day."""
        for up in self._known(node):
            window = node.windows.get(up, SAME_DAY)
            for that in _days_read(day, window):
                if that in self.held[up] or (that != day and that in self.due[up]):
                    return True
        return False

    def _known(self, node: Node) -> list[str]:
        return [up for up in node.upstream if up in self.offers]


def _days_read(day: date, window: Window) -> Iterable[date]:
    if window.first == window.last == 0:
        return (day,)
    return [day + after * ONE_DAY for after in range(window.first, window.last + 1)]


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
