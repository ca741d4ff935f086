"""Shrunk: a file that would take more rows of its day away than the source allows, or all of them.

Belongs here: refusing it before it is in the archive, where it would count at every rebuild. Does not belong here: what
a table makes of the rows (it asks again, under the same `max_removed_ratio`), files that come first (they take nothing
away), files of many days (their tables alone ask, for each of the days).

What is compared are records, which are counted without being typed: those of the archived file only where a file takes
its place, those of the other files of the day only where that one lost many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from etl_project.sources import names
from etl_project.sources.intake import archive, quarantine
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.intake.scan import Entry, Waiting
from etl_project.sources.reading import judge
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.spec import SourceSpec


class Shrunk:
    """Tells for one batch of files of a source which of them would shrink their day too much.

    `limit`: the share of a day's rows that may go. `waiting`: the files that come with it. Rows that moved from one
    file of a day to another are not gone.
    """

    def __init__(self, spec: SourceSpec, limit: float, waiting: Sequence[Entry | Waiting]) -> None:
        self._spec = spec
        self._limit = limit
        self._waiting = [one for one in waiting if isinstance(one, Waiting)]
        self._gained: Counter[date] = Counter()
        """What files of this batch have brought to their days, less what they took: several may shrink one day."""

    def refuse(self, file: Waiting, records: int, archived: archive.Day) -> None:
        """Raise FileRefused for a file that leaves its day too few rows; `records` is what it has, 0 without a row.

        Ask for all files of the batch, in the order in which they are taken in.
        """
        replaced = archived.replaced_by(file.name)
        had = 0 if replaced is None else self._records_of(replaced)
        if replaced is not None and self._leaves_too_few(file, records, had, archived):
            raise self._refusal(file, records, replaced, had)
        self._gained[file.day] += 0 if had is None else records - had

    def _leaves_too_few(self, file: Waiting, records: int, had: int | None, archived: archive.Day) -> bool:
        """Whether too much of the day is gone. The other files are looked at one by one, until they answer it."""
        replaced = archived.replaced_by(file.name)
        if replaced is None or (had is not None and records >= had) or (had is None and records):
            return False
        gained = self._gained[file.day]
        lost, before, stay = (had or 0) - records - gained, (had or 0) - gained, records
        for beside in self._each(archived.beside(replaced)):
            if self._is_little(lost, before) and stay:
                return False
            before, stay = before + beside, stay + beside
        for coming in self._each_coming(file, records, archived):
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
        try:
            found = judge.count_rows(self._spec, version)
        except FileRefused:
            return None
        return found.records - found.skipped

    def _each_coming(self, file: Waiting, records: int, archived: archive.Day) -> Iterator[int]:
        """What other files of the day that wait have more than what they replace, or than this one in its place."""
        for one in self._waiting:
            if one.day != file.day or one.name == file.name:
                continue
            if archive.exclude_each_other(one.name, file.name, self._spec):
                if self._comes_later(one, file):
                    yield max(0, self._rows_in(one) - records)
            else:
                old = archived.replaced_by(one.name)
                yield max(0, self._rows_in(one) - ((self._records_of(old) or 0) if old is not None else 0))

    def _comes_later(self, other: Waiting, file: Waiting) -> bool:
        """Whether the other one counts once both are in the archive: by its name, or as it comes."""
        of_other, of_file = ((self._spec.version_of(one.name)[1], self._waiting.index(one)) for one in (other, file))
        return of_other > of_file

    def _rows_in(self, file: Waiting) -> int:
        try:
            sent = SourceFile(Path(file.path), file.name, file.day)
            return sum(batch.rows.num_rows for batch in judge.read_file(sent, self._spec))
        except (OSError, FileRefused):
            return 0  # It has gone, was taken in already (then the archive has its rows), or will be refused.
