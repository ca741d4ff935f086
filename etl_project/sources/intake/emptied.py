"""Emptied: a file without a row that would leave a day, which has rows, without any.

Belongs here: refusing it before it is in the archive, where it would count at every rebuild. Does not belong here: how
much smaller a day may get (the tables' `max_removed_ratio`), empty files that come first (they are accepted).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


class Emptied:
    """Tells for one batch of files of a source which of them would empty their day.

    `waiting`: the files that come with it. Rows that moved from one file of a day to another are not gone.
    """

    def __init__(self, spec: SourceSpec, waiting: Sequence[Entry | Waiting]) -> None:
        self._spec = spec
        self._waiting = [one for one in waiting if isinstance(one, Waiting)]

    def refuse(self, file: Waiting, rows: int, archived: archive.Day) -> None:
        """Raise FileRefused for a file without rows, where what it replaces are the only rows of its day.

        Files are opened only for a file without rows that replaces another one.
        """
        replaced = None if rows else archived.replaced_by(file.name)
        if replaced is None or self._any_has_rows(archived.beside(replaced)) or self._rows_come(file):
            return
        had = self._rows_of(replaced)
        if had == 0:
            return
        gave = f"gave {file.day} {had} rows" if had else f"gave {file.day} rows, and cannot be read by its contract now"
        raise FileRefused(
            quarantine.NO_ROWS_LEFT,
            f"no row, where {names.shown(replaced.name)} {gave}",
            "a file with rows: send it again; or, where the day is meant to have none, release it and run "
            "`etl drain --allow-shrink`",
        )

    def _any_has_rows(self, versions: Iterable[Accepted]) -> bool:
        return any(self._rows_of(one) for one in versions)

    def _rows_of(self, version: Accepted) -> int | None:
        """How many records it has that are not left out; None where it fits the contract no more."""
        try:
            found = judge.count_rows(self._spec, version)
        except FileRefused:
            return None
        return found.records - found.skipped

    def _rows_come(self, file: Waiting) -> bool:
        """Whether another file of the day waits that has rows, and counts beside this one or in its place."""
        others = [one for one in self._waiting if one.day == file.day and one.name != file.name]
        return any(self._stays(one, file) and self._has_rows(one.path, one.name, one.day) for one in others)

    def _stays(self, other: Waiting, file: Waiting) -> bool:
        """Whether the other one counts once both are in the archive: the later one does, by its name or as it comes."""
        if not archive.exclude_each_other(other.name, file.name, self._spec):
            return True
        of_other, of_file = ((self._spec.version_of(one.name)[1], self._waiting.index(one)) for one in (other, file))
        return of_other > of_file

    def _has_rows(self, path: str, name: str, day: date) -> bool:
        try:
            return any(batch.rows.num_rows for batch in judge.read_file(SourceFile(Path(path), name, day), self._spec))
        except (OSError, FileRefused):
            return False  # It has gone, was taken in already (then the archive has its rows), or will be refused.
