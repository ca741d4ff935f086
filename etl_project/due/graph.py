"""The graph of what is built of what: assets, the partitions each has, and which of them another one reads.

Belongs here: the words in which `pending` sees the assets, without Dagster: keys, sets of keys, readings, nodes and
their order. Does not belong here: turning Dagster's definitions into them (`following`), and what is due (`pending`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Protocol

from etl_project.utc import ONE_DAY, days_between, is_day, neighbours

Key = date | str
"""A partition: the day where an asset has UTC days, else its key as Dagster writes it; "" is all of an asset without
partitions."""

DAYS_JOB = "build_days"
"""The job of every asset of every pipeline that has the project's days: a run selects assets and days of it."""
WHOLE: Key = ""


def text_of(key: Key) -> str | None:
    """The key as commit records write it; None for all of an asset without partitions."""
    return (key or None) if isinstance(key, str) else key.isoformat()


class KeySet(Protocol):
    """The partitions of an asset. Sets with the same name are the same, so that one run may build both assets."""

    @property
    def name(self) -> str: ...

    def key(self, text: str | None) -> Key | None:
        """The key of a commit record; None where it is of another form, from when the asset had other partitions."""
        ...

    def existing(self, now: datetime, first_day: date) -> Sequence[Key]:
        """The partitions there are, ascending; of days none before `first_day` or after today."""
        ...

    def ranges(self, keys: Iterable[Key], now: datetime) -> list[Sequence[Key]]:
        """The keys as runs of neighbours that one Dagster run can build."""
        ...


@dataclass(frozen=True)
class Days:
    """UTC days from `first` on, up to `end_offset` days after yesterday or to `last`."""

    first: date = date.min
    end_offset: int = 1
    last: date = date.max

    @property
    def name(self) -> str:
        return f"days {self.first} {self.end_offset} {self.last}"

    def key(self, text: str | None) -> Key | None:
        return date.fromisoformat(text) if text is not None and is_day(text) else None

    def span(self, now: datetime, first_day: date) -> tuple[date, date]:
        """The first and the last day that there is."""
        today = now.date()
        return max(self.first, first_day), min(today + min(self.end_offset - 1, 0) * ONE_DAY, self.last)

    def existing(self, now: datetime, first_day: date) -> Sequence[Key]:
        return list(days_between(*self.span(now, first_day)))

    def ranges(self, keys: Iterable[Key], now: datetime) -> list[Sequence[Key]]:
        found = neighbours(key for key in keys if isinstance(key, date))
        return [list(days_between(first, last)) for first, last in found]


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


class Reading(Protocol):
    """Which upstream partitions a partition reads, where that is no window of days."""

    @property
    def may_be_absent(self) -> bool: ...

    def table(self, here: Sequence[Key], there: Sequence[Key], now: datetime) -> Mapping[Key, Sequence[Key]]:
        """For each existing key `here` what it reads. Keys that read the same may share one sequence."""
        ...


@dataclass(frozen=True)
class Node:
    """One asset: what it reads, and whether new input asks for a new commit.

    `source` marks the asset that takes files in: it is due when a file waits, and what it offers downstream is the
    fingerprint of the accepted versions instead of a commit. `windows` and `readings` name the upstreams that are not
    read on the same day alone, `itself` is what the asset reads of its own earlier partitions. `blocking` are its
    checks without which nothing may be built of it. `most_keys_a_run` limits ranges, as its backfill policy does.
    `by_hand` says why it is not followed, `unseen` what it reads that leaves no commit records. `table` is its
    table, if it is written to one, and `job` the job that builds it. `published_after_checks`: what does not pass them
    stays beside the table, as a candidate. `dimensions` are the names of those that its partitions have.
    """

    asset: str
    upstream: tuple[str, ...] = ()
    source: str | None = None
    follows_inputs: bool = True
    code_version: str = ""
    windows: Mapping[str, Window] = field(default_factory=dict)
    keys: KeySet = Days()
    readings: Mapping[str, Reading] = field(default_factory=dict)
    itself: Window | Reading | None = None
    blocking: tuple[str, ...] = ()
    most_keys_a_run: int | None = None
    by_hand: str = ""
    unseen: tuple[str, ...] = ()
    job: str = DAYS_JOB
    table: str = ""
    published_after_checks: bool = False
    dimensions: tuple[str, ...] = ()


def at_most(nodes: Iterable[Node], days_per_run: int | None) -> tuple[Node, ...]:
    """The nodes, whose runs take so many days at the most; what an asset itself says counts where it is less."""
    if days_per_run is None:
        return tuple(nodes)
    return tuple(
        replace(node, most_keys_a_run=min(days_per_run, node.most_keys_a_run or days_per_run))
        if isinstance(node.keys, Days)
        else node
        for node in nodes
    )


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


def islands(ordered: Sequence[Node]) -> list[list[Node]]:
    """The graph as groups of assets that have nothing to do with each other: each may fail without the others."""
    found: list[list[Node]] = []
    for node in ordered:
        touching = [island for island in found if any(other.asset in node.upstream for other in island)]
        found = [island for island in found if island not in touching]
        found.append([*(other for island in touching for other in island), node])
    return found
