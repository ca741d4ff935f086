"""What is due, and in which runs: pure functions over what is there.

Work is derived, never stored: `pending()` compares what should be (files that wait, accepted file versions, the
fingerprints of what each asset reads) with what is (the last commit of every asset and day). The sensor, the schedule
and `etl drain` all call it, so a crash anywhere, a backfill of one table by hand or a restored backup all converge.

Does not belong here: reading folders, databases or clocks; `snapshot` gathers those and passes them in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from etl_project.storage.contract import UNKNOWN, input_hash
from etl_project.storage.heads import Head
from etl_project.utc import ONE_DAY, days_between, neighbours


@dataclass(frozen=True)
class Window:
    """The upstream days that a day reads: `first` to `last` days after it.

    `may_be_absent`: those of them that were committed. `may_not_exist`: those that are partitions at all; the days
    before the first one and after today are not read.
    """

    first: int = 0
    last: int = 0
    may_be_absent: bool = False
    may_not_exist: bool = False


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


@dataclass(frozen=True, order=True)
class Due:
    """One run to ask for: these assets over the days from `first` to `last`, both included.

    `state` names what made them due (inputs and code): the same state is the same request, for ever. `part` makes the
    same of some of the days: exactly what would be due if only those were.
    """

    first: date
    last: date
    assets: tuple[str, ...]
    state: str
    part: Callable[[date, date], Due] | None = field(default=None, compare=False, repr=False)

    def halves(self) -> tuple[Due, ...]:
        """The run as two runs over half of the days each, in order; none for a single day, which has no halves."""
        if self.part is None or self.first == self.last:
            return ()
        middle = self.first + ((self.last - self.first).days // 2) * ONE_DAY
        return self.part(self.first, middle), self.part(middle + ONE_DAY, self.last)


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
    runs: list[Due] = []
    for island in _islands(in_dependency_order(nodes)):
        reasons = _reasons_now(island, sources, heads, now, open_day_interval, first_day, closing)
        by_group: dict[frozenset[str], list[date]] = {}
        for day, due_then in reasons.items():
            group = frozenset(node.asset for node in island if node.asset in due_then and node.source is None)
            by_group.setdefault(group, []).append(day)
        runs += [
            _run(group, island, reasons, first, last)
            for group, days in by_group.items()
            for first, last in neighbours(days)
        ]
    return sorted(runs)


def _run(
    group: frozenset[str], ordered: list[Node], reasons: Mapping[date, Mapping[str, str]], first: date, last: date
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
    state = _digest([assets, [node.code_version for node in nodes], why])
    return Due(first, last, assets, state, partial(_run, group, ordered, reasons))


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


def _reasons_now(
    ordered: list[Node],
    sources: Mapping[str, SourceState],
    heads: Heads,
    now: datetime,
    open_day_interval: timedelta,
    first_day: date,
    closing: date | None,
) -> dict[date, dict[str, str]]:
    """What `_reasons` gives, without the open day where that has to wait for its interval."""
    today = now.date()
    reasons = _reasons(ordered, sources, heads, (first_day, today), today, closing)
    if today in reasons and _rebuilt_since(today, reasons[today], ordered, heads, now - open_day_interval):
        # As if nothing had come for today: what it waits for must not hold up the days that read today's rows.
        return _reasons(ordered, sources, heads, (first_day, today), today - ONE_DAY, closing)
    return reasons


def _reasons(
    ordered: list[Node],
    sources: Mapping[str, SourceState],
    heads: Heads,
    existing: tuple[date, date],
    last: date,
    closing: date | None,
) -> dict[date, dict[str, str]]:
    """For every existing day up to `last` the assets that are due, each with the input state that makes it so."""
    first, today = existing
    committed: dict[str, dict[date, Head]] = {node.asset: {} for node in ordered}
    for (asset, day), head in heads.items():
        if asset in committed and day <= today:
            committed[asset][day] = head
    found = _Found({}, {}, {}, {}, existing)
    for node in ordered:
        if node.source is not None:
            readers = [committed[reader.asset] for reader in ordered if node.asset in reader.upstream]
            empty = _empty(node.asset, sources[node.source], today, readers, closing)
            found.take_source(node, sources[node.source], (first, last), empty)
        else:
            found.take(node, committed[node.asset], (first, last))
    reasons: dict[date, dict[str, str]] = {}
    for asset, due in found.due.items():
        for day, reason in due.items():
            reasons.setdefault(day, {})[asset] = reason
    return reasons


def _empty(
    asset: str, state: SourceState, today: date, readers: Sequence[Mapping[date, Head]], closing: date | None
) -> set[date]:
    """The days that offer the empty input: known to be empty, or committed as such.

    A day that was committed from files which are gone is missing: a lost archive must not empty any table.
    """
    if state.empty_fingerprint is None:
        return set()
    as_empty: set[date] = set()
    from_files: set[date] = set()
    for heads in readers:
        for day, head in heads.items():
            if day not in state.accepted:
                nothing_read = head.input_hash == input_hash([(asset, day.isoformat(), state.empty_fingerprint)])
                (as_empty if nothing_read and head.rows == 0 else from_files).add(day)
    return (expected_empty_days(state, today, closing) | as_empty) - from_files - state.blocked


@dataclass
class _Found:
    """What is known of the assets so far, upstream first: what each day offers, is due for, or has to wait with.

    `existing`: the first and last day that are partitions.
    """

    offers: dict[str, dict[date, str | None]]
    due: dict[str, dict[date, str]]
    held: dict[str, set[date]]
    heads: dict[str, Mapping[date, Head]]
    existing: tuple[date, date]

    def take_source(self, node: Node, state: SourceState, days: tuple[date, date], empty: set[date]) -> None:
        """Add an asset that takes files in: due where a file waits."""
        offers: dict[date, str | None] = dict.fromkeys(empty, state.empty_fingerprint)
        self.offers[node.asset] = offers | dict(state.accepted)
        self.due[node.asset] = {day: files for day, files in state.waiting.items() if days[0] <= day <= days[1]}
        self.held[node.asset] = set()

    def take(self, node: Node, committed: Mapping[date, Head], days: tuple[date, date]) -> None:
        """Add an asset whose upstreams are all there: due where its inputs ask for a commit."""
        self.offers[node.asset] = {day: head.fingerprint for day, head in committed.items()}
        self.heads[node.asset] = committed
        due = self.due[node.asset] = {}
        held = self.held[node.asset] = set()
        if not node.follows_inputs or not node.upstream:
            return
        inputs = [self._input(up, node.windows.get(up, SAME_DAY)) for up in node.upstream]
        within_reach = set().union(*(days_within_reach(each) for each in inputs))
        for day in sorted(within_reach):
            if not days[0] <= day <= days[1]:
                continue
            reason = reason_on(day, inputs, committed.get(day))
            if reason is None:
                continue
            if any(waits_on(day, each) for each in inputs):
                held.add(day)
            else:
                due[day] = reason

    def _input(self, upstream: str, window: Window) -> _Input:
        return _Input(
            upstream,
            window,
            self.offers.get(upstream, {}),
            self.due.get(upstream, {}),
            self.held.get(upstream, frozenset()),
            self.heads.get(upstream, {}),
            self.existing,
        )


class _Input(NamedTuple):
    """One upstream of an asset: what its days offer, are due for, or have to wait with, and their commits."""

    asset: str
    window: Window
    offers: Mapping[date, str | None]
    due: Mapping[date, str]
    held: Set[date]
    heads: Mapping[date, Head]
    existing: tuple[date, date]


def days_within_reach(each: _Input) -> set[date]:
    """The days that read at least one upstream day which offers something or will."""
    there = each.offers.keys() | each.due.keys()
    if each.window is SAME_DAY:
        return there
    reach = range(each.window.first, each.window.last + 1)
    return {day - after * ONE_DAY for day in there for after in reach}


def reason_on(day: date, inputs: Sequence[_Input], head: Head | None) -> str | None:
    """The state of the inputs when it asks for a commit of the day; None when it does not, or an input is missing.

    A commit that does not know what it read is out of date once an input was committed after it.
    """
    changed: list[str] = []
    read: list[tuple[str, str, str | None]] = []
    for each in inputs:
        for that in _days_read(day, each):
            if that in each.due:
                changed.append(each.due[that])
            elif (offered := each.offers.get(that)) is not None:
                read.append((each.asset, that.isoformat(), offered))
            elif not each.window.may_be_absent:
                return None  # An input is missing, not empty: there is nothing to build from yet.
    expected = input_hash(read)
    if changed:
        return _digest([changed, expected])
    if head is not None and head.input_hash == UNKNOWN:
        return expected if _committed_since(head, day, inputs) else None
    return expected if read and (head is None or head.input_hash != expected) else None


def _committed_since(head: Head, day: date, inputs: Sequence[_Input]) -> bool:
    """Whether anything that the day reads was committed after `head`."""
    read = (each.heads.get(that) for each in inputs for that in _days_read(day, each))
    return any(other is not None and other.committed_us > head.committed_us for other in read)


def waits_on(day: date, each: _Input) -> bool:
    """Whether another day that is read is still to be built, or something upstream waits for such a day."""
    return any(that in each.held or (that != day and that in each.due) for that in _days_read(day, each))


def _days_read(day: date, each: _Input) -> Iterable[date]:
    """The upstream days that the day reads."""
    window = each.window
    if window is SAME_DAY:
        return (day,)
    days = [day + after * ONE_DAY for after in range(window.first, window.last + 1)]
    first, last = each.existing
    return [that for that in days if first <= that <= last] if window.may_not_exist else days


def _rebuilt_since(day: date, due: Iterable[str], ordered: list[Node], heads: Heads, since: datetime) -> bool:
    """Whether anything of what is due on the open day, or of what reads it directly, was committed after `since`.

    Anything, not all: what can never be committed today must not take the interval from the others.
    """
    asked = set(due)
    sources = {node.asset for node in ordered if node.source is not None}
    watched = (asked - sources) or {
        reader.asset for reader in ordered for up in reader.upstream if up in asked & sources
    }
    return any(heads[asset, day].committed_at > since for asset in watched if (asset, day) in heads)


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
