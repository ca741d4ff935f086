"""Shrunk: a file that would take more rows of its day away than the source allows, or all of them.

Belongs here: refusing it before it is in the archive, where it would count at every rebuild. Does not belong here: what
a table makes of the rows (it asks again, under the same `max_removed_ratio`), files that come first (they take nothing
away), files of many days (their tables alone ask, for each of the days).

What is compared are records, which are counted without being typed: those of the archived file only where a file takes
its place, those of the other files of the day only where that one lost many.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from etl_project.sources import names
from etl_project.sources.intake import archive, quarantine
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.intake.scan import Entry, Waiting
from etl_project.sources.reading import judge
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.spec import SourceSpec


class Sent(NamedTuple):
    """A file, its content, and how many records it has that are not left out: 0 where none of them is a row."""

    file: Waiting
    sha256: str
    records: int


class Shrunk:
    """Tells for one batch of files of a source which of them would shrink their day too much.

    `limit`: the share of a day's rows that may go. `waiting`: the files that come with it. Rows that moved from one
    file of a day to another are not gone.
    """

    def __init__(self, spec: SourceSpec, limit: float, waiting: Sequence[Entry | Waiting]) -> None:
        self._spec = spec
        self._limit = limit
        self._waiting: dict[date, list[Waiting]] = {}
        self._place: dict[int, int] = {}
        """Where an inode stands among the files of its day, under whatever name it is taken in."""
        for one in waiting:
            if isinstance(one, Waiting):
                of_day = self._waiting.setdefault(one.day, [])
                self._place[one.inode] = len(of_day)
                of_day.append(one)
        self._gained: Counter[date] = Counter()
        """What files of this batch have brought to their days, less what they took: several may shrink one day."""
        self._counted: dict[str, int | None] = {}
        self._looked_at: dict[str, tuple[str, int]] = {}

    def refuse(self, sent: Sent, archived: archive.Day) -> None:
        """Raise FileRefused for a file that leaves its day too few rows.

        Ask for all files of the batch, in the order in which they are taken in.
        """
        file, records = sent.file, sent.records
        if archived.is_overtaken(file.name):
            return  # It does not count: it takes nothing away, and brings nothing either.
        replaced = archived.replaced_by(file.name)
        had = 0 if replaced is None else self._records_of(replaced)
        if replaced is not None and self._leaves_too_few(sent, had, archived):
            raise self._refusal(file, records, replaced, had)
        self._gained[file.day] += 0 if had is None else records - had

    def _leaves_too_few(self, sent: Sent, had: int | None, archived: archive.Day) -> bool:
        """Whether too much of the day is gone. The other files are looked at one by one, until they answer it."""
        file, records = sent.file, sent.records
        replaced = archived.replaced_by(file.name)
        if replaced is None or (had is not None and records >= had) or (had is None and records):
            return False
        gained = self._gained[file.day]
        lost, before, stay = (had or 0) - records - gained, (had or 0) - gained, records
        for beside in self._each(archived.beside(replaced)):
            if self._is_little(lost, before) and stay:
                return False
            before, stay = before + beside, stay + beside
        for coming in self._each_coming(sent, archived):
            if self._is_little(lost, before) and stay:
                return False
            lost, stay = lost - coming, stay + coming
        if not stay:
            return had != 0
        return not self._is_little(lost, before)

    def _is_little(self, lost: int, before: int) -> bool:
        return lost <= self._limit * before

    def _refusal(self, file: Waiting, records: int, replaced: Accepted, had: int | None) -> FileRefused:
        gave = f"gave {file.day} {had} rows" if had else f"gave {file.day} rows, and cannot be read by its contract now"
        meant = "release it and run `etl drain --allow-shrink`"
        if not records:
            return FileRefused(
                quarantine.NO_ROWS_LEFT,
                f"no row, where {names.shown(replaced.name)} {gave}",
                f"a file with rows: send it again; or, where the day is meant to have none, {meant}",
            )
        return FileRefused(
            quarantine.ROWS_GONE,
            f"{records} rows, where {names.shown(replaced.name)} {gave}",
            f"at most {self._limit:.0%} of the day's rows less (max_removed_ratio): send the file again, in full; or, "
            f"where the day is meant to have no more, {meant}",
        )

    def _each(self, versions: Sequence[Accepted]) -> Iterator[int]:
        return (self._records_of(one) or 0 for one in versions)

    def _records_of(self, version: Accepted) -> int | None:
        """How many records it has that are not left out; None where it fits the contract no more."""
        if version.file not in self._counted:
            try:
                found = judge.count_rows(self._spec, version)
                self._counted[version.file] = found.records - found.skipped
            except FileRefused:
                self._counted[version.file] = None
        return self._counted[version.file]

    def _each_coming(self, sent: Sent, archived: archive.Day) -> Iterator[int]:
        """What other files of the day that wait have more than what they replace, or than this one in its place."""
        own, contents = archive.counts_with(sent.file.name, self._spec), {sent.sha256}
        for which, one in self._coming(sent.file, archived).items():
            sha256, rows = self._look_at(one)
            if sha256 in contents or self._is_kept(sha256, sent.file, archived):
                continue  # It will be a duplicate.
            contents.add(sha256)
            old = None if which == own else archived.replaced_by(one.name)
            had = sent.records if which == own else (old and self._records_of(old)) or 0
            yield max(0, rows - had)

    def _coming(self, file: Waiting, archived: archive.Day) -> dict[str, Waiting]:
        """The files taken in after this one that count in the end: of several that replace each other the newest."""
        newest = {archive.counts_with(file.name, self._spec): file}
        for one in self._after(file):
            which = archive.counts_with(one.name, self._spec)
            before = newest.get(which)
            older = before is not None and self._spec.version_of(before.name)[1] > self._spec.version_of(one.name)[1]
            if not older and not archived.is_overtaken(one.name):
                newest[which] = one
        return {which: one for which, one in newest.items() if one is not file}

    def _after(self, file: Waiting) -> list[Waiting]:
        of_day = self._waiting.get(file.day, [])
        return of_day[self._place.get(file.inode, len(of_day)) + 1 :]

    def _is_kept(self, sha256: str, file: Waiting, archived: archive.Day) -> bool:
        """Whether a file of the day has this content, and neither this one nor one after it takes its place."""
        twin = archived.holding(sha256)
        groups = (archive.counts_with(one.name, self._spec) for one in [file, *self._after(file)])
        return twin is not None and archive.counts_with(twin.name, self._spec) not in groups

    def _look_at(self, file: Waiting) -> tuple[str, int]:
        """Its content and its rows."""
        if file.path not in self._looked_at:
            try:
                with Path(file.path).open("rb") as content:
                    sha256 = hashlib.file_digest(content, "sha256").hexdigest()
                sent = SourceFile(Path(file.path), file.name, file.day)
                rows = sum(batch.rows.num_rows for batch in judge.read_file(sent, self._spec))
                self._looked_at[file.path] = sha256, rows
            except (OSError, FileRefused):
                self._looked_at[file.path] = "", 0  # It has gone, or will be refused.
        return self._looked_at[file.path]
