"""Sets of partitions and partition mappings of Dagster, in the words of `graph`.

Belongs here: every kind of partitions but UTC days, and every mapping but windows of UTC days; what each gives is what
Dagster's own mapping gives, key by key. Does not belong here: which asset has which (`following`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.instance import DynamicPartitionsStore

from etl_project.due.graph import WHOLE, Days, Key, KeySet, text_of
from etl_project.storage import through
from etl_project.utc import ONE_DAY, day_of, is_day

Definition = dg.PartitionsDefinition[Any]

SEPARATOR = "|"
"""What Dagster puts between the parts of a key of several dimensions."""


@dataclass(frozen=True)
class Whole:
    """The one partition of an asset without partitions."""

    name: str = "no partitions"

    def key(self, text: str | None) -> Key | None:
        """As `KeySet`."""
        return WHOLE if text is None else None

    def existing(self, now: datetime, first_day: date) -> Sequence[Key]:
        """As `KeySet`."""
        return (WHOLE,)

    def ranges(self, keys: Iterable[Key], now: datetime) -> list[Sequence[Key]]:
        """As `KeySet`."""
        return [[key] for key in keys]


@dataclass(frozen=True)
class Listed:
    """Static and dynamic partitions, and those of several dimensions: each is a run of its own.

    Which dynamic ones there are, the `partition_loading_context` says in which it is asked.
    """

    definition: Definition

    @property
    def name(self) -> str:
        """As `KeySet`."""
        return f"{type(self.definition).__name__} {hash(self.definition)}"

    def key(self, text: str | None) -> Key | None:
        """As `KeySet`."""
        return text or None

    def existing(self, now: datetime, first_day: date) -> Sequence[Key]:
        """As `KeySet`."""
        with partition_loading_context(effective_dt=now):
            return [str(key) for key in self.definition.get_partition_keys()]

    def ranges(self, keys: Iterable[Key], now: datetime) -> list[Sequence[Key]]:
        """As `KeySet`."""
        return [[key] for key in keys]


@dataclass(frozen=True)
class Periods:
    """Time windows that are no UTC days: hours, weeks, months, days of another zone or hour."""

    definition: dg.TimeWindowPartitionsDefinition

    @property
    def name(self) -> str:
        """As `KeySet`."""
        return f"periods {self.definition.get_serializable_unique_identifier()}"

    def key(self, text: str | None) -> Key | None:
        """As `KeySet`."""
        if text is None or self.definition.fmt != "%Y-%m-%d":
            return text
        return day_of(text) if is_day(text) else None

    def existing(self, now: datetime, first_day: date) -> Sequence[Key]:
        """As `KeySet`."""
        keys = (self.key(text) for text in self.definition.get_partition_keys(current_time=now))
        return [key for key in keys if key is not None]

    def ranges(self, keys: Iterable[Key], now: datetime) -> list[Sequence[Key]]:
        """As `KeySet`."""
        position = {key: n for n, key in enumerate(self.existing(now, date.min))}
        found: list[list[Key]] = []
        for key in sorted(keys, key=position.__getitem__):
            if found and position[key] == position[found[-1][-1]] + 1:
                found[-1].append(key)
            else:
                found.append([key])
        return [*found]


def key_set(definition: Definition | None) -> KeySet:
    """The partitions of this definition."""
    if definition is None:
        return Whole()
    if isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return _days(definition) or Periods(definition)
    return Listed(definition)


def is_dynamic(definition: Definition) -> bool:
    """Whether only an instance knows which partitions there are."""
    parts = [one.partitions_def for one in getattr(definition, "partitions_defs", ())] or [definition]
    return any(isinstance(part, dg.DynamicPartitionsDefinition) for part in parts)


def unusable(definition: Definition, dynamic: DynamicPartitionsStore) -> Sequence[tuple[str, str]]:
    """Dynamic keys that cannot be a part of a key of several dimensions, each with the name of its partitions.

    They hold the sign that Dagster puts between the parts, so it lists no partition of them and says nothing.
    """
    kinds = [one.partitions_def for one in getattr(definition, "partitions_defs", ())]
    names = [kind.name for kind in kinds if isinstance(kind, dg.DynamicPartitionsDefinition) and kind.name is not None]
    return [(name, key) for name in names for key in dynamic.get_dynamic_partitions(name) if SEPARATOR in key]


def _days(definition: dg.TimeWindowPartitionsDefinition) -> Days | None:
    """The UTC days that the definition stands for; None for other windows."""
    plain = definition.is_basic_daily and definition.timezone == "UTC" and definition.fmt == "%Y-%m-%d"
    if not plain or getattr(definition, "exclusions", None):
        return None
    end = definition.end
    last = date.max if end is None else end.astimezone(UTC).date() - ONE_DAY
    return Days(definition.start.astimezone(UTC).date(), definition.end_offset, last)


@dataclass(frozen=True)
class Constant:
    """Every partition reads the same ones: the last, all, some that are named, the whole of an unpartitioned asset."""

    mapping: dg.PartitionMapping
    here: Definition | None
    there: Definition | None
    may_be_absent: bool = False

    def table(self, here: Sequence[Key], there: Sequence[Key], now: datetime) -> Mapping[Key, Sequence[Key]]:
        """As `Reading`."""
        if self.there is None:
            return dict.fromkeys(here, (WHOLE,))
        if not here or not there:
            return {}
        own = key_set(self.there)
        with partition_loading_context(effective_dt=now):
            read = through(self.mapping, text_of(here[0]), self.here, self.there)
        keys = tuple(key for key in map(own.key, read) if key is not None)
        return dict.fromkeys(here, keys)


@dataclass(frozen=True)
class OneByOne:
    """Any other mapping, asked key by key: half a millisecond each."""

    mapping: dg.PartitionMapping
    here: Definition
    there: Definition
    may_be_absent: bool = False

    def table(self, here: Sequence[Key], there: Sequence[Key], now: datetime) -> Mapping[Key, Sequence[Key]]:
        """As `Reading`."""
        own = key_set(self.there)
        found = {}
        with partition_loading_context(effective_dt=now):
            for key in here:
                read = map(own.key, through(self.mapping, text_of(key), self.here, self.there))
                found[key] = tuple(each for each in read if each is not None)
        return found


@dataclass(frozen=True)
class Dimension:
    """Several dimensions on one side, one of them alone on the other."""

    multi: dg.MultiPartitionsDefinition
    dimension: str
    single: Definition
    downwards: bool
    """Whether the side that reads is the one with several dimensions."""
    may_be_absent: bool = False

    def table(self, here: Sequence[Key], there: Sequence[Key], now: datetime) -> Mapping[Key, Sequence[Key]]:
        """As `Reading`."""
        own = key_set(self.single)
        if self.downwards:
            parts = {key: own.key(self._part(key)) for key in here}
            return {key: (part,) for key, part in parts.items() if part is not None}
        found: dict[Key, list[Key]] = {key: [] for key in here}
        for key in there:
            part = own.key(self._part(key))
            if part is not None and part in found:
                found[part].append(key)
        return found

    def _part(self, key: Key) -> str:
        parts = self.multi.get_partition_key_from_str(str(key)).keys_by_dimension
        return str(parts[self.dimension])


@dataclass(frozen=True)
class Overlapping:
    """Time windows that read the windows they overlap with, from `first` to `last` of their own windows away."""

    here: dg.TimeWindowPartitionsDefinition
    there: dg.TimeWindowPartitionsDefinition
    first: int = 0
    last: int = 0
    may_be_absent: bool = False
    may_not_exist: bool = False

    def table(self, here: Sequence[Key], there: Sequence[Key], now: datetime) -> Mapping[Key, Sequence[Key]]:
        """As `Reading`. A window that does not exist although it has to is read as the key it would have."""
        own, upstream = _windows(self.here, here), _windows(self.there, there)
        starts, ends = [start for start, _ in upstream], [end for _, end in upstream]
        found: dict[Key, Sequence[Key]] = {}
        for n, key in enumerate(here):
            begin, end = self._moved(own, n)
            if begin >= end:
                found[key] = ()
                continue
            read = there[bisect_right(ends, begin) : bisect_left(starts, end)]
            if not self.may_not_exist and not (upstream and starts[0] <= begin and end <= ends[-1]):
                outside = begin if not upstream or begin < starts[0] else end
                read = (*read, f"{datetime.fromtimestamp(outside, UTC):%Y-%m-%d %H:%M} UTC, which is no partition")
            found[key] = tuple(read)
        return found

    def _moved(self, own: Sequence[tuple[float, float]], n: int) -> tuple[float, float]:
        """The span that the n-th window reads. Beyond the windows there are, Dagster's definition goes on counting."""
        begin = own[n + self.first][0] if 0 <= n + self.first < len(own) else self._beyond(own[n][0], self.first)
        end = own[n + self.last][1] if 0 <= n + self.last < len(own) else self._beyond(own[n][1], self.last)
        return begin, end

    def _beyond(self, edge: float, windows: int) -> float:
        """The edge so many windows away."""
        at = datetime.fromtimestamp(edge, UTC)
        windows_from = self.here.get_next_partition_window if windows > 0 else self.here.get_prev_partition_window
        for _ in range(abs(windows)):
            window = windows_from(at, respect_bounds=False)
            if window is None:
                return edge
            at = window.end if windows > 0 else window.start
        return at.timestamp()


def _windows(definition: dg.TimeWindowPartitionsDefinition, keys: Sequence[Key]) -> list[tuple[float, float]]:
    """Start and end of each window, in seconds since 1970."""
    if _days(definition) is not None:
        days = (datetime.combine(key, datetime.min.time(), UTC).timestamp() for key in keys if isinstance(key, date))
        return [(start, start + ONE_DAY.total_seconds()) for start in days]
    windows = (definition.time_window_for_partition_key(str(text_of(key))) for key in keys)
    return [(window.start.timestamp(), window.end.timestamp()) for window in windows]
