"""Why a partition is due, or why it is not although something has changed: the inner half of `pending`.

Belongs here: comparing one asset after another, upstream first, with what its upstreams offer. Does not belong here:
runs and ranges (`pending`), and anything that reads a store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, NamedTuple

from etl_project.due.graph import SAME_DAY, Days, Key, Node, Reading, Window, text_of
from etl_project.storage import UNKNOWN, Head, input_hash, is_asked_again
from etl_project.utc import ONE_DAY

Heads = Mapping[tuple[str, Key], Head]


class Verdict(NamedTuple):
    """What a check said of a partition. One that did not finish is asked for again."""

    said: str
    finished: bool = True


Red = Mapping[tuple[str, Key], Verdict]
"""The partitions whose blocking checks failed, or did not finish, since they were committed."""


class Held(NamedTuple):
    """What a partition waits for: a partition of an asset that it reads, and why that one is not ready."""

    asset: str
    key: Key
    why: str


What = Literal["file", "first", "changed", "follows", "asked", "unchecked"]


class Cause(NamedTuple):
    """Why a partition is due: a file waits, it was never built, `inputs` have changed since its commit or are built in
    the same go, somebody asked for it, or a blocking check of it did not finish."""

    what: What
    inputs: tuple[str, ...] = ()


@dataclass
class Found:
    """What is known of the assets so far, upstream first: what each partition offers, is due for, or has to wait for.

    Nothing after `last_day` is due. With `eventually` nothing has to wait for what is to be built first: what is due is
    all that is going to be built, if everything goes well but what is `given_up`.
    """

    now: datetime
    first_day: date
    last_day: date
    through: Collection[str]
    red: Red | None
    eventually: bool = False
    given_up: Collection[tuple[str, Key]] = ()
    nodes: dict[str, Node] = field(default_factory=dict)
    offers: dict[str, Mapping[Key, str | None]] = field(default_factory=dict)
    due: dict[str, dict[Key, str]] = field(default_factory=dict)
    causes: dict[str, dict[Key, Cause]] = field(default_factory=dict)
    held: dict[str, dict[Key, Held]] = field(default_factory=dict)
    stale: dict[str, set[Key]] = field(default_factory=dict)
    lacking: dict[str, dict[Key, Held]] = field(default_factory=dict)
    heads: dict[str, Mapping[Key, Head]] = field(default_factory=dict)
    _existing: dict[str, Sequence[Key]] = field(default_factory=dict)

    def take_source(self, node: Node, waiting: Mapping[date, str], offers: Mapping[Key, str | None]) -> None:
        """Add an asset that takes files in: due where a file waits."""
        self._start(node, offers)
        inside = self._inside(node)
        there = (day for day in waiting if inside(day) and (node.asset, day) not in self.given_up)
        self.due[node.asset] = {day: waiting[day] for day in there}
        self.causes[node.asset] = dict.fromkeys(self.due[node.asset], Cause("file"))

    def take(self, node: Node, committed: Mapping[Key, Head]) -> None:
        """Add an asset whose upstreams are all there: due where its inputs ask for a commit."""
        self._start(node, {key: head.fingerprint for key, head in committed.items()})
        self.heads[node.asset] = committed
        inside = self._inside(node)
        if not node.follows_inputs or not (node.upstream or node.itself):
            self._ask_for_unfinished_checks(node, committed, inside, ())
            return
        readings: dict[str, Window | Reading] = {**node.windows, **node.readings}
        inputs = [self._input(node, up, readings.get(up, SAME_DAY)) for up in node.upstream]
        own = None if node.itself is None else self._input(node, node.asset, node.itself)
        within_reach = set().union(*(keys_within_reach(each) for each in inputs), committed if own else ())
        for key in sorted(within_reach, key=None if isinstance(node.keys, Days) else str):
            if not inside(key):
                continue
            if own is None:
                reason = reason_on(key, inputs, committed.get(key), self.lacking[node.asset])
                self._settle(node.asset, key, reason, inputs)
            else:
                self._take_own(node, key, inputs, own)
        self._ask_for_unfinished_checks(node, committed, inside, inputs)

    def _ask_for_unfinished_checks(
        self, node: Node, committed: Mapping[Key, Head], inside: Inside, inputs: Sequence[Input]
    ) -> None:
        """A run that was killed before a blocking check leaves rows that nobody has checked: build them once more.

        Not what is due anyway, nor what has to wait for what it reads.
        """
        for (asset, key), verdict in (self.red or {}).items():
            known = key in self.due[node.asset] or key in self.held[node.asset]
            if asset != node.asset or verdict.finished or known or not inside(key) or key not in committed:
                continue
            waits = next((held for each in inputs if (held := waits_on(key, each, self.eventually)) is not None), None)
            if waits is None:
                self.due[asset][key] = digest(["unchecked", committed[key].fingerprint, committed[key].input_hash])
                self.causes[asset][key] = Cause("unchecked")
            else:
                self.held[asset][key] = waits

    def _start(self, node: Node, offers: Mapping[Key, str | None]) -> None:
        self.nodes[node.asset], self.offers[node.asset] = node, offers
        self.due[node.asset], self.held[node.asset], self.lacking[node.asset] = {}, {}, {}
        self.causes[node.asset], self.stale[node.asset] = {}, set()

    def _take_own(self, node: Node, key: Key, inputs: Sequence[Input], own: Input) -> None:
        """One partition of an asset that reads itself. One without earlier commits starts from nothing.

        What is committed and differs only in what it read of itself is stale: to follow it would rebuild everything
        after every correction.
        """
        head, stale = own.heads.get(key), self.stale[node.asset]
        first = min(own.heads, default=None, key=str)
        if first is None or str(first) >= str(key):
            own = own._replace(may_be_absent=True)
        reason = reason_on(key, [*inputs, own], head, self.lacking[node.asset])
        follows = (
            head is None
            or is_asked_again(head.input_hash)
            or node.asset in self.through
            or _others_changed(key, inputs, head)
        )
        if reason is not None and follows:
            if head is not None or inputs:
                self._settle(node.asset, key, reason, [*inputs, own])
        elif head is not None and (reason is not None or any(that in stale for that in own.read(key))):
            stale.add(key)

    def _settle(self, asset: str, key: Key, reason: str | None, inputs: Sequence[Input]) -> None:
        """Note the partition as due, or as held by what it reads."""
        if reason is None:
            return
        waits = next((held for each in inputs if (held := waits_on(key, each, self.eventually)) is not None), None)
        if (asset, key) in self.given_up:
            waits = Held(asset, key, "failed for good")
        if waits is None:
            self.due[asset][key] = reason
            self.causes[asset][key] = cause_of(key, inputs, self.heads[asset].get(key))
        else:
            self.held[asset][key] = waits

    def _inside(self, node: Node) -> Inside:
        if isinstance(node.keys, Days):
            first, last = node.keys.span(self.now, self.first_day)
            return Inside((first, min(last, self.last_day)), None)
        return Inside(None, frozenset(self._keys_of(node)))

    def _keys_of(self, node: Node) -> Sequence[Key]:
        """The partitions of a node that exist; made once a look for each set."""
        if node.keys.name not in self._existing:
            self._existing[node.keys.name] = node.keys.existing(self.now, self.first_day)
        return self._existing[node.keys.name]

    def _input(self, node: Node, upstream: str, reading: Window | Reading) -> Input:
        there = self.nodes.get(upstream)
        existing = there.keys.span(self.now, self.first_day) if there and isinstance(there.keys, Days) else None
        return Input(
            upstream,
            reading if isinstance(reading, Window) else SAME_DAY,
            None if isinstance(reading, Window) else self._table(node, there, reading),
            reading.may_be_absent,
            self.offers.get(upstream, {}),
            self.due.get(upstream, {}),
            self.held.get(upstream, {}),
            self.heads.get(upstream, {}),
            existing or (self.first_day, self.now.date()),
            there is not None and there.keys.name != node.keys.name,
            self._red(there) if there is not None else {},
        )

    def _table(self, node: Node, there: Node | None, reading: Reading) -> Mapping[Key, Sequence[Key]]:
        return {} if there is None else reading.table(self._keys_of(node), self._keys_of(there), self.now)

    def _red(self, node: Node) -> Mapping[Key, str]:
        """The partitions of an asset that nothing may be built of, with what its checks said."""
        if not node.blocking:
            return {}
        if self.red is None:
            checks = ", ".join(node.blocking)
            return dict.fromkeys(self.offers[node.asset], f"nobody has looked at its blocking checks ({checks})")
        return {key: verdict.said for (asset, key), verdict in self.red.items() if asset == node.asset}


class Inside(NamedTuple):
    """Which partitions may be due: a span of days, or some keys."""

    span: tuple[date, date] | None
    keys: frozenset[Key] | None

    def __call__(self, key: Key) -> bool:
        if self.span is None or isinstance(key, str):
            return self.keys is not None and key in self.keys
        return self.span[0] <= key <= self.span[1]


class Input(NamedTuple):
    """One upstream of an asset: what its partitions offer, are due for, or have to wait for, and their commits.

    `table`: what each partition reads, where that is no window of days. `existing`: the days that are partitions.
    `elsewhere`: it is built in runs of its own. `red`: the partitions that nothing may be built of.
    """

    asset: str
    window: Window
    table: Mapping[Key, Sequence[Key]] | None
    may_be_absent: bool
    offers: Mapping[Key, str | None]
    due: Mapping[Key, str]
    held: Mapping[Key, Held]
    heads: Mapping[Key, Head]
    existing: tuple[date, date]
    elsewhere: bool
    red: Mapping[Key, str]

    def read(self, key: Key) -> Sequence[Key]:
        """The upstream partitions that the partition reads."""
        if self.table is not None:
            return self.table.get(key, ())
        window = self.window
        if window is SAME_DAY or isinstance(key, str):
            return (key,)
        days = [key + after * ONE_DAY for after in range(window.first, window.last + 1)]
        first, last = self.existing
        # As Dagster does it: a window that reaches beyond the first or the last day ends there.
        if window.may_not_exist or window.first < 0:
            days = [that for that in days if first <= that]
        if window.may_not_exist or window.last > 0:
            days = [that for that in days if that <= last]
        return days


def keys_within_reach(each: Input) -> Set[Key]:
    """The partitions that read at least one upstream partition which offers something or will."""
    there = each.offers.keys() | each.due.keys()
    if each.table is not None:
        seen: dict[int, bool] = {}  # Partitions that read the same share one sequence.
        for read in each.table.values():
            if id(read) not in seen:
                seen[id(read)] = not there.isdisjoint(read)
        return {key for key, read in each.table.items() if seen[id(read)]}
    if each.window is SAME_DAY:
        return there
    reach = range(each.window.first, each.window.last + 1)
    return {day - after * ONE_DAY for day in there if isinstance(day, date) for after in reach}


def reason_on(key: Key, inputs: Sequence[Input], head: Head | None, lacking: dict[Key, Held]) -> str | None:
    """The state of the inputs when it asks for a commit of the partition; None when it does not, or one is missing.

    A missing input is noted in `lacking`. A commit that does not know what it read is out of date once an input was
    committed after it.
    """
    changed: list[str] = []
    read: list[tuple[str, str | None, str | None]] = []
    for each in inputs:
        for that in each.read(key):
            if that in each.due:
                changed.append(each.due[that])
            elif (offered := each.offers.get(that)) is not None:
                read.append((each.asset, text_of(that), offered))
            elif not each.may_be_absent:
                # An input is missing, not empty: there is nothing to build from yet.
                never = isinstance(that, date) and that < each.existing[0]
                lacking[key] = Held(each.asset, that, "has no such day" if never else "has no rows yet")
                return None
    expected = input_hash(read)
    if changed:
        return digest([changed, expected])
    if head is not None and head.input_hash == UNKNOWN:
        return expected if _committed_since(head, key, inputs) else None
    return expected if read and (head is None or head.input_hash != expected) else None


def _committed_since(head: Head, key: Key, inputs: Iterable[Input]) -> bool:
    """Whether anything that the partition reads was committed after `head`."""
    read = (each.heads.get(that) for each in inputs for that in each.read(key))
    return any(other is not None and other.committed_us > head.committed_us for other in read)


def _others_changed(key: Key, inputs: Sequence[Input], head: Head) -> bool:
    """Whether something other than the asset itself may ask for a new commit. What has no commits tells no times."""
    return any(that in each.due for each in inputs for that in each.read(key)) or (
        _committed_since(head, key, inputs) or any(not each.heads for each in inputs)
    )


def cause_of(key: Key, inputs: Sequence[Input], head: Head | None) -> Cause:
    """Why a partition that is due is due. Which input has changed is known where inputs have commits of their own."""
    built = tuple(each.asset for each in inputs if any(that in each.due for that in each.read(key)))
    if built:
        return Cause("follows", built)
    if head is None:
        return Cause("first")
    if is_asked_again(head.input_hash):
        return Cause("asked")
    since = tuple(each.asset for each in inputs if _committed_since(head, key, [each]))
    return Cause("changed", since or tuple(each.asset for each in inputs))


def waits_on(key: Key, each: Input, eventually: bool = False) -> Held | None:
    """The partition to wait for: one that is built in another run, waits itself, or whose blocking check is red.

    `eventually`: what is built in another run will have been built.
    """
    for that in each.read(key):
        if that in each.held:
            return each.held[that]
        if that in each.due:
            if not eventually and (that != key or each.elsewhere):
                return Held(each.asset, that, "is to be built first")
        elif that in each.red:
            return Held(each.asset, that, each.red[that])
    return None


def digest(value: object) -> str:
    """One text that stands for the value."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
