"""Batch: the messages of one partition between two commits, and how they become files.

Belongs here: collecting rows by UTC day and dead letters, and writing all files of some batches durably. Does not
belong here: the broker (`landing`), the form of names and rows (`format`), what a message says (`decode`).

Files are written to a hidden folder beside their place, flushed to disk, and only then renamed one after the other. A
kill leaves any number of the renamed files and hidden ones that nobody scans; the offsets are committed later, so the
same range is landed again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path

from etl_project import atomic, faults, utc
from etl_project.failures import Transient
from etl_project.kafka import format as landed
from etl_project.kafka import nothing
from etl_project.kafka.decode import MessageReader, Poison
from etl_project.kafka.format import Headers, RowFormat, Span
from etl_project.kafka.nothing import File

STAGING = ".landing"
"""The hidden folder in which files are written, beside those that are finished."""
UNREADABLE_HEADERS = "the name of a header is not UTF-8: the headers cannot be read, and are not kept here"
NO_END = 2**63
"""Beyond every offset."""
_ABANDONED_SECONDS = 3600.0
_LINES_A_WRITE = 4_000  # Joined before they are written: that is much faster than a call for each.
_ROW_BYTES = 33  # What Python adds to the bytes of a row; without it, small messages would take more than they say.


class CannotWrite(Transient):
    """The system is in the way (full disk, permission). No offset was committed: what is missing is consumed again."""


class PartitionBatch:
    """The messages of one partition since `first`, the position at which the batch begins.

    It should not grow beyond the offset `until`: a batch with this end has landed before, and gets the same name again.
    """

    def __init__(
        self, topic: str, partition: int, first: int, reader: MessageReader, longest_row: int, until: int = NO_END
    ) -> None:
        self.partition = partition
        self.until = until
        self._topic, self._first = topic, first
        self._reader = reader
        self._longest_row = longest_row
        self._format = RowFormat(topic, partition)
        self._days: dict[date, list[bytes]] = {}
        self._dead: list[bytes] = []
        self.dropped = 0
        self.next_offset = first
        self.size_bytes = 0

    @property
    def messages(self) -> int:
        """How many messages were taken."""
        return len(self._dead) + self.rows + self.dropped

    @property
    def rows(self) -> int:
        """How many of the messages are rows."""
        return sum(map(len, self._days.values()))

    @property
    def dead(self) -> int:
        """How many of the messages are dead letters."""
        return len(self._dead)

    @property
    def span(self) -> Span | None:
        """The offsets that this batch covers; None as long as there are none."""
        if self.next_offset == self._first:
            return None
        return Span(self._topic, self.partition, self._first, self.next_offset - 1)

    def add(
        self, offset: int, timestamp_ms: int | None, key: bytes | None, headers: Headers | None, value: bytes | None
    ) -> None:
        """Take the next message, as a row or as a dead letter, or drop it as its source says. One that was taken
        already is passed over.

        `headers` is None where they cannot be read.
        """
        if offset < self.next_offset:
            return
        try:
            if headers is None:
                raise Poison(UNREADABLE_HEADERS)
            read = self._reader.read(value, timestamp_ms)
            if read is None:
                self.dropped += 1
                self.next_offset = offset + 1
                return
            day, text = read
            line = self._format.row(offset, timestamp_ms, key, headers, text)
            refuse_long(line, self._longest_row)
        except Poison as poison:
            own = Span(self._topic, self.partition, offset, offset)
            line = landed.dead_letter(own, timestamp_ms, key, headers or (), value, str(poison))
            self._dead.append(line)
        else:
            rows = self._days.get(day)
            if rows is None:
                rows = self._days[day] = []
            rows.append(line)
        self.size_bytes += len(line) + _ROW_BYTES
        self.next_offset = offset + 1

    def reach(self, position: int) -> None:
        """Let the batch cover the offsets before `position`, up to `until`, which hold no more messages.

        They hold the marks of transactions, or nothing any longer. Not covered, a retention that takes them away would
        look like a loss.
        """
        self.next_offset = max(self.next_offset, min(position, self.until + 1))

    def files(self, incoming: Path, dead_letters: Path) -> list[File]:
        """What this batch writes into the source's drop folder and its folder of dead letters: dead letters first.

        Where nothing in it is to be kept, that is what is on record: its offsets are covered all the same.
        """
        span = self.span
        if span is None:
            return []
        if not (self._dead or self._days):
            return [nothing.file(dead_letters, span)]
        dead = [File(dead_letters / landed.dead_letters_name(span), self._dead)] if self._dead else []
        return dead + [File(incoming / landed.name(day, span), rows) for day, rows in sorted(self._days.items())]


def write(files: Iterable[File]) -> None:
    """Make every file durable under its name. A file that is there already is replaced.

    What a file `replaces` is removed once it is in place.
    Raises CannotWrite (retrying helps) with all temporary files removed; some files may be in place, which is harmless.
    """
    done = list(files)
    staged: list[tuple[Path, Path]] = []
    try:
        faults.reach("kafka.before_write")
        for file in done:
            atomic.make_folder(file.path.parent / STAGING)
            temporary = atomic.temporary_sibling(file.path.parent / STAGING / file.path.name)
            staged.append((temporary, file.path))
            _write(temporary, file.lines)
        for at, (temporary, path) in enumerate(staged):
            if at:
                faults.reach("kafka.between_renames")
            os.rename(temporary, path)
        for folder in {path.parent for _, path in staged}:
            atomic.sync_folder(folder)
        faults.reach("kafka.after_rename")
        for former in [former for file in done for former in file.replaces]:
            former.unlink(missing_ok=True)
    except OSError as error:
        advice = "free some space, or let this user write there; nothing is lost, the messages are consumed again"
        raise CannotWrite(f"landing {error.filename or 'messages'}: {error.strerror or error}; {advice}.") from error
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


def refuse_long(line: bytes, longest: int) -> None:
    """Raises Poison for a row that no file may have."""
    if len(line) > longest:
        raise Poison(f"oversized: a row of {len(line)} bytes, a line may have {longest}")


def sweep(folders: Iterable[Path]) -> None:
    """Remove what killed processes have left in the staging folders: files so old that nobody can be writing them."""
    before = utc.now().timestamp() - _ABANDONED_SECONDS
    for folder in folders:
        with suppress(FileNotFoundError), os.scandir(folder / STAGING) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)


def _write(path: Path, lines: Sequence[bytes]) -> None:
    with path.open("xb") as file:
        for at in range(0, len(lines), _LINES_A_WRITE):
            file.write(b"".join(lines[at : at + _LINES_A_WRITE]))
        file.flush()
        os.fsync(file.fileno())
