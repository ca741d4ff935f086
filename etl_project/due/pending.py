"""What is due, and in which runs: pure functions over what is there.

Work is derived, never stored: `pending()` compares what should be (files that wait, accepted file versions, the
fingerprints of what each asset reads) with what is (the last commit of every asset and partition). The sensor, the
schedule and `etl drain` all call it, so a crash anywhere, a backfill of one table by hand or a restored backup all
converge.

Does not belong here: reading folders, databases or clocks; `snapshot` gathers those and passes them in. Which single
partition is due, and why not, is `reasons`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from itertools import pairwise

from etl_project.due.graph import DAYS_JOB, SAME_DAY, Key, Node, Window, in_dependency_order, islands
from etl_project.due.reasons import Cause, Found, Heads, Held, Red, Verdict, digest
from etl_project.storage import Head, built_from, input_hash
from etl_project.utc import ONE_DAY, days_between

__all__ = [
    "SAME_DAY",
    "Cause",
    "Due",
    "Heads",
    "Held",
    "Node",
    "Outlook",
    "Red",
    "Settings",
    "SourceState",
    "Verdict",
    "Window",
    "expected_empty_days",
    "in_dependency_order",
    "outlook",
    "pending",
    "runs_for",
]


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
class Due:
    """One run to ask for: these assets over the partitions from `first` to `last`, both included.

    `state` names what made them due (inputs and code): the same state is the same request, for ever. `part` makes the
    same of some of the partitions `over`: exactly what would be due if only those were.
    """

    first: Key
    last: Key
    assets: tuple[str, ...]
    state: str
    over: Sequence[Key] = field(default=(), compare=False, repr=False)
    part: Callable[[Sequence[Key]], Due] | None = field(default=None, compare=False, repr=False)
    job: str = field(default=DAYS_JOB, compare=False, repr=False)
    dimensions: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    def order(self) -> tuple[str, str, tuple[str, ...]]:
        """By partitions, then assets. As text: days, other keys and no partitions are due side by side."""
        return str(self.first), str(self.last), self.assets

    @property
    def keys(self) -> Sequence[Key]:
        """Every partition of the run."""
        if self.over or not (isinstance(self.first, date) and isinstance(self.last, date)):
            return self.over or (self.first,)
        return list(days_between(self.first, self.last))

    @property
    def span(self) -> str:
        """The partitions for a person."""
        if not self.first:
            return "no partitions"
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"

    def halves(self) -> tuple[Due, ...]:
        """The run as two runs over half of the partitions each, in order; none for a single one: it has no halves."""
        if self.part is None or len(self.keys) < 2:
            return ()
        middle = (len(self.keys) + 1) // 2
        return self.part(self.keys[:middle]), self.part(self.keys[middle:])


@dataclass(frozen=True)
class Outlook:
    """The runs to ask for, and what is not asked for although something has changed.

    `held`: partitions that wait for another one. `stale`: committed partitions of assets that read themselves, made of
    rows that have been replaced since. `lacking`: partitions that wait for one that nothing will build by itself.
    `causes`: why each partition that is due is due.
    """

    due: list[Due]
    held: Mapping[str, Mapping[Key, Held]]
    stale: Mapping[str, Sequence[Key]]
    lacking: Mapping[str, Mapping[Key, Held]]
    causes: Mapping[str, Mapping[Key, Cause]] = field(default_factory=dict)


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

    A partition of an asset is due when a settled file waits for it, when the hash of its inputs differs from the one in
    its last commit, or when it has inputs and was never committed. Partitions that do not exist, and days after today
    (UTC) and before `first_day`, are never due; today is due at most once in `open_day_interval`. Neighbours that are
    due in the same assets are one run. What reads other partitions than its own is asked for once those are built.
    An asset that reads itself is built in order; its partitions that are only made of replaced rows of its own are
    left as they are. `closing` is a day that somebody declares closed: without a file it is empty, where its source
    allows that. Nobody has looked at the blocking checks here, so nothing is built of an asset that has some: see
    `outlook`.
    """
    return outlook(nodes, sources, heads, now, Settings(open_day_interval, closing, first_day)).due


@dataclass(frozen=True)
class Settings:
    """How to look at the nodes, as in `pending`. `through`: assets that read themselves and are to be rebuilt after
    a correction of one of their partitions. `eventually`: what is due is all that is going to be built once the runs
    before it are done, but for what is `given_up` and what is built of that."""

    open_day_interval: timedelta
    closing: date | None = None
    first_day: date = date.min
    through: frozenset[str] = frozenset()
    eventually: bool = False
    given_up: frozenset[tuple[str, Key]] = frozenset()


def outlook(
    nodes: Iterable[Node],
    sources: Mapping[str, SourceState],
    heads: Heads,
    now: datetime,
    settings: Settings,
    red: Red | None = None,
) -> Outlook:
    """As `pending`, with what is not asked for, and why.

    Nothing is built of a partition whose blocking check is `red`; None says that nobody has looked.
    """
    runs: list[Due] = []
    looks: list[Found] = []
    for island in islands(in_dependency_order(nodes)):
        found = _found_now(island, sources, heads, now, settings, red)
        looks.append(found)
        for group in _sets(island):
            runs += _runs_of(group, found.due, now)
    return Outlook(
        _in_order(runs),
        {asset: held for look in looks for asset, held in look.held.items() if held},
        {asset: sorted(keys, key=str) for look in looks for asset, keys in look.stale.items() if keys},
        {asset: lacking for look in looks for asset, lacking in look.lacking.items() if lacking},
        {asset: causes for look in looks for asset, causes in look.causes.items() if causes},
    )


def runs_for(nodes: Iterable[Node], due: Mapping[str, Mapping[Key, str]], now: datetime) -> list[Due]:
    """The runs that build these partitions of these assets, each for the reason given; upstream before downstream."""
    found = islands(in_dependency_order(nodes))
    return _in_order([run for island in found for group in _sets(island) for run in _runs_of(group, due, now)])


def _in_order(runs: Iterable[Due]) -> list[Due]:
    return sorted(runs, key=lambda run: run.order)


def _sets(island: Sequence[Node]) -> list[list[Node]]:
    """The nodes by the set of partitions they have: a run builds partitions of one set."""
    sets: dict[str, list[Node]] = {}
    for node in island:
        sets.setdefault(node.keys.name, []).append(node)
    return list(sets.values())


def _runs_of(nodes: list[Node], due: Mapping[str, Mapping[Key, str]], now: datetime) -> Iterator[Due]:
    """The runs of assets that have the same partitions."""
    reasons: dict[Key, dict[str, str]] = {}
    for node in nodes:
        for key, reason in due.get(node.asset, {}).items():
            reasons.setdefault(key, {})[node.asset] = reason
    by_group: dict[frozenset[str], list[Key]] = {}
    for key, due_then in reasons.items():
        group = frozenset(node.asset for node in nodes if node.asset in due_then and node.source is None)
        by_group.setdefault(group, []).append(key)
    for group, keys in by_group.items():
        limits = [n.most_keys_a_run for n in nodes if n.asset in group and n.most_keys_a_run is not None]
        for neighbours in nodes[0].keys.ranges(keys, now):
            at_once = min(limits, default=len(neighbours))
            for first in range(0, len(neighbours), at_once):
                yield _run(group, nodes, reasons, neighbours[first : first + at_once])


def _run(
    group: frozenset[str], ordered: list[Node], reasons: Mapping[Key, Mapping[str, str]], keys: Sequence[Key]
) -> Due:
    """One range run. Assets that take files in join it where a file waits on any of its days.

    On the other days they find nothing to do; leaving them out would split the range at every day without a file.
    """
    reading = {up for node in ordered if node.asset in group for up in node.upstream}
    nodes = [
        node
        for node in ordered
        if node.asset in group
        or (node.source and (node.asset in reading or not group) and any(node.asset in reasons[key] for key in keys))
    ]
    why = [[str(key), [reasons[key].get(node.asset) for node in nodes]] for key in keys]
    assets = tuple(node.asset for node in nodes)
    state = digest([assets, [node.code_version for node in nodes], why])
    some_of = partial(_run, group, ordered, reasons)
    return Due(keys[0], keys[-1], assets, state, keys, some_of, nodes[0].job, nodes[0].dimensions)


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


def _found_now(
    ordered: list[Node],
    sources: Mapping[str, SourceState],
    heads: Heads,
    now: datetime,
    settings: Settings,
    red: Red | None,
) -> Found:
    """What `_found` gives, without the open day where that has to wait for its interval."""
    today = now.date()
    found = _found(ordered, sources, heads, now, settings, red, today)
    asked = [asset for asset, due in found.due.items() if today in due]
    if asked and _rebuilt_since(today, asked, ordered, heads, now - settings.open_day_interval):
        # As if nothing had come for today: what it waits for must not hold up the days that read today's rows.
        return _found(ordered, sources, heads, now, settings, red, today - ONE_DAY)
    return found


def _found(
    ordered: list[Node],
    sources: Mapping[str, SourceState],
    heads: Heads,
    now: datetime,
    settings: Settings,
    red: Red | None,
    last_day: date,
) -> Found:
    """Every asset of the island, upstream first; days are due up to `last_day`."""
    today = now.date()
    committed: dict[str, dict[Key, Head]] = {node.asset: {} for node in ordered}
    for (asset, key), head in heads.items():
        if asset in committed and (isinstance(key, str) or key <= today):
            committed[asset][key] = head
    found = Found(now, settings.first_day, last_day, settings.through, red, settings.eventually, settings.given_up)
    for node in ordered:
        if node.source is not None:
            readers = [committed[reader.asset] for reader in ordered if node.asset in reader.upstream]
            state = sources[node.source]
            empty = _empty(node.asset, state, today, readers, settings.closing)
            offers: dict[Key, str | None] = dict.fromkeys(empty, state.empty_fingerprint)
            offers.update(state.accepted.items())
            found.take_source(node, state.waiting, offers)
        else:
            found.take(node, committed[node.asset])
    return found


def _empty(
    asset: str, state: SourceState, today: date, readers: Sequence[Mapping[Key, Head]], closing: date | None
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
            if isinstance(day, date) and day not in state.accepted:
                empty = input_hash([(asset, day.isoformat(), state.empty_fingerprint)])
                nothing_read = built_from(head.input_hash) == empty
                (as_empty if nothing_read and head.rows == 0 else from_files).add(day)
    return (expected_empty_days(state, today, closing) | as_empty) - from_files - state.blocked


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
