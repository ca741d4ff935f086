"""Fetch: objects become files in the drop folder, and what became of them goes back. Each step can be repeated.

Belongs here: the order of the steps. An object is copied here, hashed and flushed, as the one with the ETag that was
listed; it is put on record; its copy gets its name in the drop folder in one rename. The intake then takes it for a
file as any other. Once that is in the archive or in quarantine, its bytes are sent to `archive` or `quarantine` in the
bucket, the object is removed if it still has the ETag that was read, and the record goes. Does not belong here: judging
files.

A kill before the record leaves a copy that is swept; one after it leaves a record from which the next pass goes on. So
an object is handed over once, and is in the bucket until its bytes are in the archive here and in the bucket. One that
is replaced meanwhile is another one: it is fetched when the first is done with.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from etl_project import atomic, faults, utc
from etl_project.failures import EtlError, Transient
from etl_project.settings import Settings
from etl_project.sources.bucket import owner
from etl_project.sources.bucket.handed import FetchBusy, Handed
from etl_project.sources.bucket.looking import Places, Seen, look_at, not_taken
from etl_project.sources.bucket.outcome import Kept, Outcomes
from etl_project.sources.bucket.sorting import name_of
from etl_project.sources.intake import kept, notices
from etl_project.sources.names import shown
from etl_project.sources.spec import SourceSpec
from etl_project.storage import Conflict, Object, conditions

_AT_ONCE = 8
_SMALL_BYTES = 4 * 2**20
"""Larger objects go one by one: whoever stops a pass waits for what is under way."""
_T = TypeVar("_T")
_R = TypeVar("_R")


class CannotFetch(Transient):
    """The system is in the way (permission, full disk). The object is where it was; retrying helps."""


class InTheWay(Transient):
    """A file that nobody has judged has the name by now. The object is where it was; retrying helps."""


@dataclass
class Fetched:
    """What a pass did: files `placed` in drop folders, objects `archived` and `refused`; `told` says so in words.

    `problems`: what went wrong; everything else went on.
    """

    placed: int = 0
    archived: int = 0
    refused: int = 0
    told: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    """What will never be fetched as it is called, in words."""
    unsettled: int = 0
    """Objects that are too young."""

    @property
    def in_words(self) -> str:
        """One line."""
        return f"{self.placed} objects fetched, {self.archived} archived, {self.refused} in quarantine"


def fetch(settings: Settings, specs: Iterable[SourceSpec]) -> Fetched:
    """One pass over all sources: afterwards every object that was ready is in its drop folder or named in `problems`.

    Objects whose file is judged have left for `archive` or `quarantine`. Nothing is done where ETL_INCOMING is not set.
    Raises AnothersPrefix and WriteRefused (retrying does not help), StoreUnavailable (it does).
    """
    done = Fetched()
    if settings.incoming_url is None:
        return done
    places = Places(settings)
    conditions.proven(places.incoming, places.stamp("conditional-put"))
    owner.claim(places.incoming, settings.data_dir)
    for spec in specs:
        drop = places.ledger(spec).drop
        if not drop.is_dir() and (settings.archive / spec.name).is_dir():
            done.problems.append(notices.removed(spec.name, drop))  # It may be a mount that is not there.
            continue
        source = _Source(places, spec, settings, done)
        try:
            with _system(drop), source.ledger.held():
                source.go_through()
        except FetchBusy as busy:
            done.told.append(str(busy))
        except EtlError as error:
            done.problems.append(f"{spec.name}: {error}")
    return done


class _Source:
    """One pass over the objects of one source, by who holds its ledger."""

    def __init__(self, places: Places, spec: SourceSpec, settings: Settings, done: Fetched) -> None:
        self.ledger = places.ledger(spec)
        self._places, self._spec, self._settings, self._done = places, spec, settings, done

    def go_through(self) -> None:
        """What was fetched earlier goes on first, so that a newer object of the same name can follow at once."""
        self.ledger.sweep()
        self._go_on(self._see())
        seen = self._see()
        self._done.passed_over += not_taken(self._spec.name, seen)
        self._done.unsettled += seen.found.unsettled
        self._fetch(seen.fetch)

    def _see(self) -> Seen:
        return look_at(self._places, self._spec, utc.now())

    def _go_on(self, seen: Seen) -> None:
        unplaced = [one for one in seen.go_on if self.ledger.is_not_in_its_place(one)]
        judged = [one for one in seen.go_on if one not in unplaced]
        self._each(unplaced, self._place, lambda one: one.name)
        outcomes = Outcomes(self._spec, self._settings, utc.now(), judged)
        known = []
        for one in judged:
            found = outcomes.of(one)
            if found is None:
                self.ledger.forget(one)
                self._done.told.append(f"{self._spec.name}: {shown(one.name)} has left the drop folder: fetched again")
            else:
                known.append((one, found))
        for some in _by_size(known, lambda each: each[0].size_bytes):
            if not self._each(some, lambda each: self._send_back(*each), lambda each: each[0].name, side_by_side=True):
                return  # Nobody answers.

    def _send_back(self, one: Handed, found: Kept) -> None:
        """The bytes go to their place in the bucket, then the object goes, then the record."""
        if found.reason is None:
            self._places.archive.keep(found.name, found.path)
        else:
            self._places.quarantine.keep(found.reason[1], found.reason[0])
            self._places.quarantine.keep(found.name, found.path)
        faults.reach("fetch.after_copy")
        is_gone = self._places.removal.of(f"{self._spec.name}/{one.name}", one.etag)
        faults.reach("fetch.after_removal")
        self.ledger.forget(one)
        more = "" if is_gone else "; it was replaced meanwhile, and the new one is fetched"
        where = self._places.archive if found.reason is None else self._places.quarantine
        self._done.told.append(f"{self._spec.name}: {shown(one.name)} is {where.shown}/{shown(found.name)}{more}")
        self._done.archived += found.reason is None
        self._done.refused += found.reason is not None

    def _fetch(self, ready: Sequence[Object]) -> None:
        """In the order in which they came: of a day's files the newest may be the one that counts.

        Then none that came later is handed over before one that failed; a copy of it that is there by then is swept.
        """
        in_order = self._spec.files_per_day == "latest"
        for batch in _by_size(ready, lambda one: one.size_bytes):
            copies = dict(self._each(batch, lambda one: (one, self._copied(one)), self._name, side_by_side=True))
            for one in batch:
                copy = copies.get(one)
                placed = copy is not None and self._each([copy], self._hand_over, lambda handed: handed.name)
                has_gone = one in copies and copy is None
                if in_order and not placed and not has_gone:
                    return
            if not copies:
                return  # Nobody answers.

    def _copied(self, one: Object) -> Handed | None:
        """A complete copy of exactly the object that was listed; None where it has gone or was replaced."""
        copy, name = self.ledger.new_copy(), self._name(one)
        try:
            found = self._places.incoming.get(one.key, copy, only=one.etag)
        except Conflict:
            found = None
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        if found is None:
            copy.unlink(missing_ok=True)
            self._done.told.append(f"{self._spec.name}: {shown(name)} was replaced or removed while it was read")
            return None
        with copy.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        came_ns = int(one.modified.timestamp()) * 10**9
        os.utime(copy, ns=(came_ns, came_ns))
        atomic.sync_file(copy)
        faults.reach("fetch.after_copy_here")
        return Handed(
            *(self._places.incoming.shown, name, one.etag, found.size_bytes, sha256, copy.name),
            inode=copy.stat().st_ino,
            mtime_ns=came_ns,
            handed_at=utc.now(),
        )

    def _hand_over(self, one: Handed) -> None:
        self.ledger.note(one)
        faults.reach("fetch.after_record")
        self._place(one)

    def _place(self, one: Handed) -> None:
        """The copy gets its name in the drop folder, once, and never in the place of a file that nobody has judged."""
        target = self.ledger.drop / one.name
        if os.path.lexists(target) and self.ledger.is_taken(one.name, kept.marks(os.fspath(self.ledger.drop))):
            raise InTheWay(
                f"{shown(one.name)}: a file in the drop folder has the same name, and is taken in first. The object is "
                "where it was; retrying helps once that file was taken in, or moved away."
            )
        atomic.make_folder(target.parent)
        os.rename(self.ledger.copy_of(one), target)
        atomic.sync_folder(target.parent)
        faults.reach("fetch.after_place")
        self._done.placed += 1
        self._done.told.append(f"{self._spec.name}: {shown(one.name)} was fetched")

    def _name(self, one: Object) -> str:
        return name_of(one.key, self._spec.name)

    def _each(
        self, some: Sequence[_T], do: Callable[[_T], _R], name: Callable[[_T], str], *, side_by_side: bool = False
    ) -> list[_R]:
        """What came of those with which it went well; of the others it is a problem what went wrong."""

        def tried(one: _T) -> _R | EtlError:
            try:
                with _system(self.ledger.drop / name(one)):
                    return do(one)
            except EtlError as error:
                return error

        found = _side_by_side(tried, some) if side_by_side else [tried(one) for one in some]
        self._done.problems += [f"{self._spec.name}: {each}" for each in found if isinstance(each, EtlError)]
        return [each for each in found if not isinstance(each, EtlError)]


def _by_size(all_of: Iterable[_T], size: Callable[[_T], int]) -> Iterator[list[_T]]:
    """In order: several small ones at a time, a large one alone."""
    some: list[_T] = []
    for one in all_of:
        if some and (size(one) > _SMALL_BYTES or len(some) == _AT_ONCE):
            yield some
            some = []
        some.append(one)
        if size(one) > _SMALL_BYTES:
            yield some
            some = []
    if some:
        yield some


def _side_by_side(do: Callable[[_T], _R], some: Sequence[_T]) -> list[_R]:
    if len(some) < 2:
        return [do(one) for one in some]
    with ThreadPoolExecutor(len(some)) as pool:
        return list(pool.map(do, some))


@contextmanager
def _system(about: Path) -> Iterator[None]:
    """Turn the system's errors into one that says what is in the way, and what to do."""
    try:
        yield
    except OSError as error:
        at = "" if error.filename is None else f" at {shown(os.fsdecode(error.filename))}"
        raise CannotFetch(
            f"{shown(os.fspath(about))} cannot be written: {error.strerror or error}{at}. The object is where it was; "
            "retrying helps once there is room, and this user may write there."
        ) from error
