"""Receive: one waiting file, from the drop folder into the archive or into quarantine. Judge, archive, remove.

Belongs here: the order of the steps, and that each of them can be repeated after a kill. Does not belong here: what
makes a file good (`judge`), the layouts (`archive`, `quarantine`), how a file leaves the drop folder (`removal`).

The bytes are read once, into a private copy on the archive's file system, while they are hashed; what was copied is
what is judged and what is kept, whatever a sender does meanwhile. The file leaves the drop folder only after its copy
is durable under its final name, and has been quiet for a while (`kept`): its sender may not be done with it, which
nobody can see over NFS. A kill at any point leaves a temporary copy at most: the next call starts over and ends in
the same place. All steps stand in this one module, however long: what a kill leaves is read off their order.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from etl_project import faults, utc
from etl_project.failures import EtlError
from etl_project.sources import names
from etl_project.sources.intake import (
    archive,
    kept,
    lots,
    many_days,
    private_copy,
    quarantine,
    removal,
    shrunk,
    spread,
    threads,
)
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.intake.outcome import Received, judged, of_verdict, put_aside, reason_of
from etl_project.sources.intake.plausible import Others
from etl_project.sources.intake.private_copy import Copy, Uncopied
from etl_project.sources.intake.scan import Entry, Scan, Unplaced, Waiting
from etl_project.sources.intake.trouble import CannotReceive, receiving
from etl_project.sources.intake.writers import Writers
from etl_project.sources.reading import judge, members, small_files
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.small_files import Verdict
from etl_project.sources.spec import SourceSpec

_ABANDONED_SECONDS = 60.0
_PIECE_BYTES = 2**20

MOST_REMOVED = 10_000
"""So many files leave a drop folder in one go: a sensor's tick has to end within a minute."""


class Failed(NamedTuple):
    """A file that could not be received, and why; it is where it was."""

    waiting: Waiting
    error: EtlError


class Results(NamedTuple):
    """What became of many files, in the order in which they were given (files after a failed one of their day wait)."""

    received: tuple[Received, ...]
    failed: tuple[Failed, ...]
    accepted: Mapping[date, tuple[Accepted, ...]] = MappingProxyType({})
    """What makes up the days now for which some file was received."""


def receive(
    waiting: Waiting, spec: SourceSpec, incoming_root: Path, archive_root: Path, quarantine_root: Path
) -> Received:
    """Take one waiting file in: afterwards it is in the archive or in quarantine, as a whole, and no longer waits.

    Raises CannotReceive (retrying helps) when the system is in the way; the file is then where it was. Two calls for
    one day of one source must not run at the same time (the run's lock sees to that).
    """
    with receiving(waiting):
        receiver = Receiver(spec, incoming_root, archive_root, quarantine_root)
        archived = archive.Day(archive_root, spec, waiting.day)
    return receiver.receive(waiting, archived)


class Receiver:
    """Takes the files of one source in; what it has looked up serves one batch of them."""

    def __init__(
        self,
        spec: SourceSpec,
        incoming_root: Path,
        archive_root: Path,
        quarantine_root: Path,
        waiting: Sequence[Entry | Waiting] = (),
        *,
        max_removed_ratio: float | None = None,
    ) -> None:
        self._spec = spec
        self._folder = incoming_root / spec.name
        self._copies = archive_root / spec.name
        self._quarantine = quarantine_root
        self._marks = kept.Marks(self._folder)
        self._writers = Writers()
        self._others = Others(spec, archive_root, waiting)
        self._shrunk = None if max_removed_ratio is None else shrunk.Shrunk(spec, max_removed_ratio, waiting)

    def receive(self, waiting: Waiting, archived: archive.Day) -> Received:
        """As `receive`; `archived` is the archive of the file's day."""
        with receiving(waiting), private_copy.made(waiting, self._copies, self._writers) as copy:
            if not isinstance(copy, Copy):
                return Received(waiting.name, waiting.day, copy)
            taken_as = self._taken_as(waiting, copy, archived)
            result = self._decide(copy, waiting._replace(name=taken_as), archived)
            faults.reach("incoming.after_archive")
            self._leave(waiting, copy, taken_as)
            return result

    def archive_of(self, day: date) -> archive.Day:
        """The archive of the day, before the first of its files is taken in."""
        return archive.Day(self._copies.parent, self._spec, day, self._others.listed(day))

    def receive_lot(self, lot: Sequence[Waiting], archived: archive.Day) -> tuple[list[Received], Failed | None]:
        """As `receive`, for files of one day, in the order given; what was in the way of one of them ends it there.

        The copies are flushed side by side, the small files judged together, and all folders flushed before the first
        file leaves. A kill leaves some of the files in the archive and all of them where they were: they are found to
        be what the archive has.
        """
        with receiving(lot[0]), self._copies_of(lot) as copies:
            return self._receive_copies(lot, copies, archived)

    @contextmanager
    def _copies_of(self, lot: Sequence[Waiting]) -> Iterator[Sequence[Copy | Uncopied | OSError]]:
        if len(lot) > 1:
            with private_copy.made_together(lot, self._copies, self._writers) as copies:
                yield copies
        else:
            with private_copy.made(lot[0], self._copies, self._writers) as copy:
                yield [copy]

    def _receive_copies(
        self, lot: Sequence[Waiting], copies: Sequence[Copy | Uncopied | OSError], archived: archive.Day
    ) -> tuple[list[Received], Failed | None]:
        done: list[tuple[Waiting, Copy, str]] = []
        results: list[Received] = []
        failed: Failed | None = None
        verdicts = self._judged_together(lot, copies)
        unsynced: set[Path] = set()
        for one, copy in zip(lot, copies, strict=True):
            try:
                with receiving(one):
                    if isinstance(copy, OSError):
                        raise copy
                    if not isinstance(copy, Copy):
                        results.append(Received(one.name, one.day, copy))
                        continue
                    taken_as = self._taken_as(one, copy, archived)
                    verdict = verdicts.get(one) if taken_as == one.name else None
                    results.append(self._decide(copy, one._replace(name=taken_as), archived, verdict, unsynced))
                    done.append((one, copy, taken_as))
            except EtlError as error:
                failed = Failed(one, error)
                break
        with receiving(lot[0]):
            threads.sync_folders(unsynced)
        self._let_go(done)
        return results, failed

    def _let_go(self, done: Sequence[tuple[Waiting, Copy, str]]) -> None:
        """As `_leave`, for files whose copies are where they belong."""
        with ExitStack() as claims:
            claim = None if self._spec.quiet_seconds else claims.enter_context(removal.claim(self._folder))
            for one, copy, taken_as in done:
                with receiving(one):
                    faults.reach("incoming.after_archive")
                    self._leave(one, copy, taken_as, claim)

    def _judged_together(self, lot: Sequence[Waiting], copies: Sequence[object]) -> dict[Waiting, Verdict]:
        """The verdicts on the copies of a lot; none where there is one file, or files have to be judged alone."""
        copied = [(copy, one) for one, copy in zip(lot, copies, strict=True) if isinstance(copy, Copy)]
        found = {copy.path: one for copy, one in copied}
        if len(found) < 2 or judge.needs_whole_files(self._spec):
            return {}
        files = (SourceFile(copy.path, one.name, one.day, content=copy.content) for copy, one in copied)
        judged = small_files.read(files, self._spec, lot[0].day)
        return {found[verdict.file.path]: verdict for _, verdicts in judged for verdict in verdicts}

    def _decide(
        self,
        copy: Copy,
        waiting: Waiting,
        archived: archive.Day,
        verdict: Verdict | None = None,
        unsynced: set[Path] | None = None,
    ) -> Received:
        """Put the copy where it belongs: nowhere (the archive has it), into the archive, or into quarantine.

        `verdict`: on a copy that was judged already. `unsynced`: see `archive.Day.accept`.
        """
        name, day, spec = waiting.name, waiting.day, self._spec
        own = archived.current(name)
        twin = own if own is not None and own.sha256 == copy.sha256 else archived.holding(copy.sha256)
        if twin is not None and unsynced is not None:
            unsynced.update(archived.folders_of(twin.name))  # A kill may have come before they were flushed.
        if twin is not None and (twin.name == name or spec.repeats_itself):
            quarantine.settle(self._quarantine, spec, day, twin.name)
            quarantine.no_longer_meant(self._quarantine, spec.name, day, copy.sha256)
            return Received(name, day, "identical", sha256=copy.sha256)
        kind: Literal["refused", "duplicate"] = "refused" if twin is None else "duplicate"
        try:
            # Parts without a row are all alike: two of them on a day say no more than one.
            if twin is not None and not self._is_empty(copy, name, day):
                other = names.shown(twin.name)
                raise FileRefused("duplicate", f"the same content as {other}", f"content that {day} does not have yet")
            kind = "refused"
            found = judged(SourceFile(copy.path, name, day), spec) if verdict is None else of_verdict(verdict)
            self._others.refuse_cut(copy, waiting, found.ends_in_a_reject)
            kind = "duplicate"
            self._others.refuse_content_of_another_day(copy.sha256, day, found.rows)
            kind = "refused"
            meant = quarantine.is_meant(self._quarantine, spec.name, day, copy.sha256)
            if self._shrunk is not None and not meant:
                records = found.rows and found.rows + found.rejected
                self._shrunk.refuse(shrunk.Sent(waiting, copy.sha256, records), archived)
        except FileRefused as refusal:
            reason = reason_of(copy, waiting, spec, day, kind, refusal, archived.highest)
            return put_aside(self._quarantine, reason, waiting, copy)
        encoding = members.encoding_record(SourceFile(copy.path, name, day), spec)
        if found.rows and not meant:  # Whoever released a file with fewer did not know of these rows.
            quarantine.no_longer_meant(self._quarantine, spec.name, day)
        self._others.note(archived.accept(name, copy.path, copy.sha256, unsynced, encoding), day)
        quarantine.settle(self._quarantine, spec, day, name)
        if meant:
            quarantine.no_longer_meant(self._quarantine, spec.name, day, copy.sha256)
        return Received(name, day, "accepted", found.rows, found.rejected, copy.sha256)

    def _is_empty(self, copy: Copy, name: str, day: date) -> bool:
        """Whether a file that is as small as a header may be holds no record."""
        if copy.stat.st_size > _PIECE_BYTES:
            return False
        found = judged(SourceFile(copy.path, name, day), self._spec)
        return found.rows == found.rejected == 0

    def put_into_quarantine(self, unplaced: Unplaced) -> Received:
        """Take a file that belongs to no day into quarantine, with the reason. Raises and repeats like `receive`."""
        entry, why = unplaced
        spec = self._spec
        expected = f"{' or '.join(spec.patterns)} with a date from {spec.start_date} on, at most a day ahead (UTC)"
        with receiving(entry), private_copy.made(entry, self._copies, self._writers) as copy:
            if not isinstance(copy, Copy):
                return Received(entry.name, None, copy)
            reason = reason_of(copy, entry, spec, None, "undated", FileRefused(why, names.shown(entry.name), expected))
            quarantine.put(self._quarantine, reason, entry.name, copy.path)
            self._leave(entry, copy, entry.name)
            return Received(entry.name, None, "refused", sha256=copy.sha256, reason=why)

    def receive_many_days(self, entry: Entry, archived: archive.Day, archive_root: Path) -> Received:
        """Take in a file whose rows say their day; `archived` is the archive of such files (see `spread`).

        As `receive`. Nobody else may take such files of the source in meanwhile (`spread.exclusive`).
        """
        with receiving(entry), private_copy.made(entry, self._copies, self._writers) as copy:
            if not isinstance(copy, Copy):
                return Received(entry.name, None, copy)
            taken_as = self._taken_as(entry, copy, archived)
            result = many_days.decide(
                copy, entry._replace(name=taken_as), self._spec, archived, self._others, archive_root, self._quarantine
            )
            faults.reach("incoming.after_archive")
            self._leave(entry, copy, taken_as)
            return result

    def _taken_as(self, waiting: Entry | Waiting, copy: Copy, archived: archive.Day) -> str:
        """The name under which the file counts: its own, or the one it was taken in under before it was renamed.

        Its sender was not done with it; under its new name it would be a second file with the same rows. Inode numbers
        are used again, so what tells is that it begins with all that was taken in then.
        """
        for name in self._marks.earlier_names(waiting.inode):
            if name != waiting.name and not os.path.lexists(self._folder / name):
                taken = archived.current(name)
                if taken is not None and private_copy.begins_with(copy.path, taken.path):
                    return name
        return waiting.name

    def _leave(self, entry: Entry | Waiting, copy: Copy, taken_as: str, claim: Path | None = None) -> None:
        """The file has been taken in: it stays until it has been quiet, or goes at once where nothing is kept."""
        if not self._spec.quiet_seconds:
            removal.remove(self._folder, entry, claim)
            return
        taken_ns = int(utc.now().timestamp() * 1e9)
        self._marks.keep(kept.identity(copy.stat, entry.name), taken_as, taken_ns)
        faults.reach("incoming.after_mark")


def receive_all_of_many_days(
    entries: Sequence[Entry], spec: SourceSpec, incoming_root: Path, archive_root: Path, quarantine_root: Path
) -> Iterator[Received]:
    """Take in files whose rows say their day, in the order given (the scan's); what became of each.

    First of all, what a kill has left unfinished is finished. Raises SpreadBusy while another process does the same,
    and CannotReceive; retrying helps, and a file that was not taken in is where it was.
    """
    with spread.exclusive(archive_root, spec):
        sweep(spec, incoming_root, archive_root)
        for sha256, found in spread.finish(archive_root, spec):
            yield Received(archive.sent_as(found.name, spec), None, "accepted", sha256=sha256, days=found.days)
        archived = archive.Day(archive_root, spec, None)
        receiver = Receiver(spec, incoming_root, archive_root, quarantine_root, entries)
        for entry in entries:
            yield receiver.receive_many_days(entry, archived, archive_root)


def put_into_quarantine(
    unplaced: Unplaced, spec: SourceSpec, incoming_root: Path, archive_root: Path, quarantine_root: Path
) -> Received:
    """Take a file that belongs to no day into quarantine, with the reason. Raises and repeats like `receive`."""
    with receiving(unplaced.entry):
        receiver = Receiver(spec, incoming_root, archive_root, quarantine_root)
    return receiver.put_into_quarantine(unplaced)


def tidy(found: Scan, spec: SourceSpec, incoming_root: Path, now: datetime) -> list[str]:
    """Remove the files of a scan that were taken in and have been quiet for `quiet_seconds`; what was in the way.

    At most MOST_REMOVED of them, the next call goes on. A file that has changed since the scan, or that somebody has
    open for writing, stays. A kill leaves a file in place, or in a claim, in which the next scan finds it.
    """
    folder = incoming_root / spec.name
    limit_ns = int((now.timestamp() - spec.quiet_seconds) * 1e9)
    kept.forget(folder, islice((mark for mark in found.stale if mark[1] <= limit_ns), MOST_REMOVED))
    writers = Writers()
    problems: list[str] = []
    for one in islice((one for one in found.kept if one.taken_ns <= limit_ns), MOST_REMOVED):
        if writers.have_path(one.entry.path):
            continue
        try:
            with receiving(one.entry):
                removal.remove(folder, one.entry)
                kept.forget(folder, [(one.identity, one.taken_ns)])
        except CannotReceive as error:
            problems.append(str(error))
    return problems


def sweep(spec: SourceSpec, incoming_root: Path, archive_root: Path) -> None:
    """Remove what killed processes have left of the source: unfinished copies and empty claims."""
    private_copy.sweep(archive_root / spec.name)
    quarantine.sweep(incoming_root / spec.name)
    removal.sweep(incoming_root / spec.name, utc.now().timestamp() - _ABANDONED_SECONDS)


def receive_all(
    waiting: Sequence[Waiting],
    spec: SourceSpec,
    incoming_root: Path,
    archive_root: Path,
    quarantine_root: Path,
    threads: int = 1,
    *,
    max_removed_ratio: float | None = None,
) -> Results:
    """Take many files in, days side by side in `threads` threads, the files of one day in the order given (the scan's).

    The threads share nothing, and any number of them leaves the same bytes. After a failure the other files of its
    day keep waiting (a later file must not get ahead of an earlier one); the other days are not touched by it. An
    interrupt ends it after the files that are at work; all others keep waiting. With a
    `max_removed_ratio`, a file is refused that would take a larger share of its day's rows away, or all of them.
    """
    sweep(spec, incoming_root, archive_root)
    if not waiting:
        return Results((), ())
    with receiving(waiting[0]):
        receiver = Receiver(
            spec, incoming_root, archive_root, quarantine_root, waiting, max_removed_ratio=max_removed_ratio
        )

    interrupted = threading.Event()

    def receive_some(
        files: list[Waiting],
    ) -> tuple[list[tuple[Waiting, Received]], list[Failed], dict[date, archive.Day]]:
        done: list[tuple[Waiting, Received]] = []
        failed: dict[date, Failed] = {}
        archived: dict[date, archive.Day] = {}
        for lot in lots.lots(files):
            day = lot[0].day
            if interrupted.is_set():
                break
            if day in failed:
                continue
            try:
                with receiving(lot[0]):
                    if day not in archived:
                        archived[day] = receiver.archive_of(day)
                results, fault = receiver.receive_lot(lot, archived[day])
            except EtlError as error:
                results, fault = [], Failed(lot[0], error)
            done += zip(lot, results, strict=False)
            if fault is not None:
                failed[day] = fault
        return done, [*failed.values()], archived

    with ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            outcomes = list(pool.map(receive_some, lots.side_by_side(waiting)))
        except BaseException:
            interrupted.set()  # The pool waits for its threads.
            raise
    received = {one: result for done, _, _ in outcomes for one, result in done}
    return Results(
        tuple(received[one] for one in waiting if one in received),
        tuple(failure for _, failed, _ in outcomes for failure in failed),
        {day: one.accepted for _, _, archived in outcomes for day, one in archived.items()},
    )
