"""Looking: what waits in the bucket for each source, and what is to be done with it. Changes nothing.

Belongs here: the places that ETL_INCOMING gives, asking the server, and the words for what was found. Does not belong
here: fetching (`fetch`), the rules by which objects are told apart (`sorting`).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path

from etl_project.failures import EtlError
from etl_project.settings import Settings
from etl_project.sources.bucket import sorting
from etl_project.sources.bucket.handed import Handed, Ledger
from etl_project.sources.bucket.sorting import Sorted, name_of
from etl_project.sources.day_of_name import DaysOfNames
from etl_project.sources.intake import kept, stray
from etl_project.sources.names import shown
from etl_project.sources.spec import SourceSpec
from etl_project.storage import Object, Objects, Removal, address

_PATIENCE_SECONDS = 20.0
"""After so long no further source is looked at: a sensor's tick has to end within a minute."""
_SHOWN = 10


class Places:
    """The prefix that objects come in by, and those beside it that they go to."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened. `settings.incoming_url` has to be there."""
        self._settings = settings
        self.incoming = Objects(address.of(str(settings.incoming_url)))

    @cached_property
    def archive(self) -> Objects:
        """Where the bytes of accepted files go."""
        return Objects(address.of(self._settings.beside_incoming("archive")))

    @cached_property
    def quarantine(self) -> Objects:
        """Where refused files go, each with its reason."""
        return Objects(address.of(self._settings.beside_incoming("quarantine")))

    @cached_property
    def removal(self) -> Removal:
        """How objects leave the prefix that they came in by."""
        return Removal(self.incoming, self.stamp("conditional-delete"))

    def stamp(self, name: str) -> Path:
        """A local file that says something about the server; it may be removed at any time."""
        told = hashlib.sha256(f"{os.environ.get('AWS_ENDPOINT_URL', '')} {self.incoming.shown}".encode()).hexdigest()
        folder = self._settings.cache / f"incoming-{told[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def ledger(self, spec: SourceSpec) -> Ledger:
        """What was fetched for a source and is not done with."""
        return Ledger(self._settings.incoming / spec.name, self.incoming.shown)


@dataclass(frozen=True)
class Seen:
    """What there is to do for one source: objects to `fetch`, fetched files to go on with, and the rest of `found`.

    `in_the_way`: objects whose name a file in the drop folder has that was not taken in yet.
    """

    fetch: tuple[Object, ...] = ()
    go_on: tuple[Handed, ...] = ()
    found: Sorted = field(default_factory=Sorted)
    in_the_way: tuple[str, ...] = ()

    @property
    def is_to_do(self) -> bool:
        """Whether a pass would change anything."""
        return bool(self.fetch or self.go_on)

    @property
    def waiting(self) -> int:
        """How many objects are still in the bucket alone."""
        return len(self.fetch) + len(self.in_the_way) + len(self.found.behind) + self.found.unsettled

    def state(self) -> list[tuple[str, str]]:
        """What a pass would work on: the same state is the same request."""
        return [*((one.key, one.etag) for one in self.fetch), *((one.name, one.sha256) for one in self.go_on)]


@dataclass(frozen=True)
class Look:
    """All sources, and what went wrong with some, by source."""

    seen: dict[str, Seen] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    stray: tuple[str, ...] = ()
    """Folders of the bucket that have the name of no source, in words, for who asks for them (`stray_of`)."""

    def notices(self, source: str) -> list[str]:
        """What a person should know of a source, in words."""
        return [*([self.problems[source]] if source in self.problems else []), *_words(source, self.seen.get(source))]


def look(settings: Settings, specs: Iterable[SourceSpec], now: datetime) -> Look:
    """What waits in the bucket of ETL_INCOMING; nothing where it is not set. One listing a source, within a minute.

    What goes wrong is told by source: no source keeps the others from being seen.
    """
    result = Look()
    if settings.incoming_url is None:
        return result
    places, began = Places(settings), time.monotonic()
    for spec in specs:
        if time.monotonic() - began > _PATIENCE_SECONDS:
            result.problems[spec.name] = f"{places.incoming.shown} answers too slowly; looked at next time."
            continue
        try:
            result.seen[spec.name] = look_at(places, spec, now)
        except EtlError as error:
            result.problems[spec.name] = str(error)
    return result


def stray_of(settings: Settings, sources: Collection[str]) -> tuple[str, ...]:
    """A line for each folder of the bucket of ETL_INCOMING that has the name of no source. One request."""
    if settings.incoming_url is None:
        return ()
    incoming = Places(settings).incoming
    try:
        others = [name for name in incoming.folders() if name not in sources and not name.startswith(".")]
    except EtlError:
        return ()  # Whoever looks at the sources says so.
    return tuple(stray.of_no_source(name, f"{incoming.shown}/{name}", sources) for name in others)


def look_at(places: Places, spec: SourceSpec, now: datetime) -> Seen:
    """What there is of one source. Raises StoreUnavailable (retrying helps)."""
    ledger = places.ledger(spec)
    records = ledger.records()
    marks = kept.marks(str(ledger.drop))
    go_on = tuple(one for one in records.values() if ledger.state(one, marks) != "waits")
    etags = {name: one.etag for name, one in records.items()}
    found = sorting.sort(places.incoming.below(spec.name), spec.name, etags, spec.settle_seconds, now)
    fetch: list[Object] = []
    in_the_way: list[Object] = []
    for one in found.ready:
        if ledger.is_taken(name_of(one.key, spec.name), marks):
            in_the_way.append(one)
        elif one.size_bytes or places.incoming.tail(one.key, 1) is not None:  # Some tools make folders of them.
            fetch.append(one)
    if spec.files_per_day == "latest":
        unplaced = [one for one in go_on if ledger.is_not_in_its_place(one)]
        fetch, later = _in_order(fetch, [*found.behind, *in_the_way], unplaced, spec, now)
        found = found._replace(behind=(*found.behind, *later))
    return Seen(tuple(fetch), go_on, found, tuple(name_of(one.key, spec.name) for one in in_the_way))


def _in_order(
    ready: Sequence[Object], waiting: Sequence[Object], unplaced: Sequence[Handed], spec: SourceSpec, now: datetime
) -> tuple[list[Object], list[Object]]:
    """Those that may be fetched, and those that came later than one of their day that still has to wait.

    Where one file is the day, the one that is taken in last counts.
    """
    days = DaysOfNames(spec.patterns, spec.start_date, now.date()) if spec.day_from is None else None

    def day(name: str) -> date | str | None:
        return None if days is None else days.place(name)

    came = [(day(name_of(one.key, spec.name)), one.modified) for one in waiting]
    came += [(day(one.name), datetime.fromtimestamp(one.mtime_ns / 1e9, UTC)) for one in unplaced]
    first: dict[date | str | None, datetime] = {}
    for which, modified in came:
        first[which] = min(modified, first.get(which, modified))
    may: list[Object] = []
    later: list[Object] = []
    for one in ready:
        before = first.get(day(name_of(one.key, spec.name)))
        (may if before is None or one.modified < before else later).append(one)
    return may, later


def _words(source: str, seen: Seen | None) -> Iterator[str]:
    if seen is None:
        return
    if seen.waiting:
        names = [name_of(one.key, source) for one in (*seen.fetch, *seen.found.behind)]
        some = f": {_some([*names, *seen.in_the_way])}" if names or seen.in_the_way else ""
        yield f"{source}: {seen.waiting} objects wait in the bucket{some}."
    if seen.in_the_way:
        yield f"{source}: a file in the drop folder has the same name, and is taken in first: {_some(seen.in_the_way)}."
    yield from not_taken(source, seen)


def not_taken(source: str, seen: Seen) -> Iterator[str]:
    """What will never be taken in as it is called, in words."""
    for one in seen.found.passed_over:
        yield f"{source}: not taken in: {shown(one.name)} in the bucket ({one.reason}). Give it another name there."


def _some(all_of: Iterable[str]) -> str:
    names = list(all_of)
    return ", ".join(map(shown, names[:_SHOWN])) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
