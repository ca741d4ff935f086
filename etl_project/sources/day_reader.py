"""Day reader: the archived files of many days, of a source whose rows say their day, each read once.

Belongs here: giving the rows of a day out of files that hold many, for a run over any number of days. Does not belong
here: the day of a row (`reading.own_days`), files of one day (`reading.small_files`).

For one day nothing is kept. For several, the rows of each file lie by day in a file without a name, which goes with the
process; so memory does not grow with the files or the days.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources import names
from etl_project.sources.intake import spread
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.reading import judge
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.spec import SourceSpec


class Unreadable(Exception):
    """An archived file that cannot be used any more."""

    def __init__(self, version: Accepted, refused: FileRefused) -> None:
        super().__init__(str(refused))
        self.version, self.refused = version, refused


def as_sent(version: Accepted, day: date) -> tuple[SourceFile, date | None]:
    """The file that this version of a day is, and its home (see `own_days`). What came when the source's names still
    had a day may hold rows of that day alone."""
    found = spread.of(version.path)
    span, home = ((day, day), day) if found is None else ((found.first, found.last), found.home)
    return SourceFile(version.path, version.name, None, accepted=True, span=span), home


class _Read(NamedTuple):
    """What one file holds of the days that it counts for: rows in `rows`, by the places in `places`."""

    rows: pa.RecordBatchFileReader
    places: Mapping[date, Sequence[int]]
    rejects: pa.Table
    skipped: pa.Table
    home: date | None


class DayReader:
    """The rows of these days. Raises Unreadable (retrying does not help) where a file fits its contract no more."""

    def __init__(self, spec: SourceSpec, days: Mapping[date, Sequence[Accepted]], scratch: Path) -> None:
        """`scratch`: a folder with room for the rows."""
        self._spec, self._days, self._scratch = spec, days, scratch
        self._stack = ExitStack()
        self._wanted: dict[Path, list[date]] = {}
        self._versions: dict[Path, tuple[Accepted, date]] = {}
        for day, versions in days.items():
            for version in versions:
                where = version.path.resolve()
                self._wanted.setdefault(where, []).append(day)
                self._versions.setdefault(where, (version, day))
        self._losers = dict.fromkeys(self._wanted) if spec.rows.on_duplicate_key is None else self._all_losers()
        self._read: dict[Path, _Read] = {}

    def __enter__(self) -> DayReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.close()

    def day(self, day: date) -> Iterator[judge.Batch]:
        """The batches of the day's files, in the order of their names."""
        for version in self._days[day]:
            where = version.path.resolve()
            if len(self._wanted[where]) == 1:
                yield from self._streamed(where, day)
                continue
            if where not in self._read:
                self._read[where] = self._kept(where)
            yield from _of_day(self._read[where], day)

    def _batches(self, where: Path) -> Iterator[judge.Batch]:
        version, day = self._versions[where]
        try:
            yield from judge.read_file(as_sent(version, day)[0], self._spec, self._losers[where])
        except FileRefused as refused:
            raise Unreadable(version, refused) from refused

    def _streamed(self, where: Path, day: date) -> Iterator[judge.Batch]:
        home = as_sent(*self._versions[where])[1]
        for batch in self._batches(where):
            rejects, skipped = judge.of_days(at_home(batch.rejects, home), [day]), batch.skipped
            yield judge.Batch(
                judge.of_days(batch.rows, [day]), rejects, skipped if day == home else skipped.slice(0, 0)
            )

    def _kept(self, where: Path) -> _Read:
        """The whole file, its rows by day in a file of their own; its rejects, of which there are few, in memory."""
        home = as_sent(*self._versions[where])[1]
        wanted = self._wanted[where]
        places: dict[date, list[int]] = {}
        rejects, skipped = [], []
        kept = self._stack.enter_context(tempfile.TemporaryFile(dir=self._scratch))  # noqa: SIM115
        count = 0
        with pa.ipc.new_file(pa.PythonFile(kept, "w"), judge.rows_schema(self._spec)) as writer:
            for batch in self._batches(where):
                rejects.append(judge.of_days(at_home(batch.rejects, home), wanted))
                skipped.append(batch.skipped)
                for day, rows in by_day(judge.of_days(batch.rows, wanted)):
                    writer.write_batch(rows)
                    places.setdefault(day, []).append(count)
                    count += 1
        reader = pa.ipc.open_file(pa.PythonFile(kept, "r"))
        return _Read(reader, places, pa.concat_tables(rejects), pa.concat_tables(skipped), home)

    def _all_losers(self) -> dict[Path, pa.Table | None]:
        """The rows that are rejects because of their key, over all files and days at once.

        A day's files are put in the order of their names, so what comes first by name comes first here.
        """
        order = sorted(self._wanted, key=lambda where: (names.order(self._versions[where][0].name), where))
        files = [as_sent(*self._versions[where])[0] for where in order]
        try:
            found = judge.twins_of(self._spec, files, [self._wanted[where] for where in order])
        except FileRefused:
            return dict.fromkeys(order)  # Some file fits no more: reading it will say which.
        return dict(zip(order, found, strict=True))


def at_home(rejects: pa.Table, home: date | None) -> pa.Table:
    """The rejects, with those that say no day under the home of their file."""
    at = rejects.schema.get_field_index("batch_date")
    days = pc.fill_null(rejects["batch_date"], pa.scalar(home, pa.date32())) if home else rejects["batch_date"]
    return rejects.set_column(at, rejects.schema.field(at), days)


def by_day(rows: pa.Table) -> Iterator[tuple[date, pa.RecordBatch]]:
    """The rows of each day, in their order."""
    if not rows.num_rows:
        return
    days = rows["batch_date"].cast(pa.int32()).to_numpy()
    order = days.argsort(kind="stable")
    sorted_days = days[order]
    starts = [0, *(np.flatnonzero(np.diff(sorted_days)) + 1).tolist(), len(sorted_days)]
    in_order = rows.take(pa.array(order)).combine_chunks()
    for first, end in pairwise(starts):
        some = in_order.slice(first, end - first)
        for batch in some.to_batches():
            yield some["batch_date"][0].as_py(), batch


def _of_day(read: _Read, day: date) -> Iterator[judge.Batch]:
    schema = read.rows.schema
    rejects = judge.of_days(read.rejects, [day])
    skipped = read.skipped if day == read.home else read.skipped.slice(0, 0)
    yield judge.Batch(schema.empty_table(), rejects, skipped)
    for place in read.places.get(day, ()):
        yield judge.Batch(pa.Table.from_batches([read.rows.get_batch(place)]), rejects.slice(0, 0), skipped.slice(0, 0))
