"""Raw rows: what the archived files of some days give, day by day and file by file in name order.

Belongs here: reading each day's files once for rows and rejects, and what it means that one of them no longer fits.
Does not belong here: reading one file (`reading`), which days are read (`assets`), what need not be read (`carried`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pyarrow as pa

from etl_project.failures import Permanent
from etl_project.sources import carried
from etl_project.sources.day_reader import DayReader, Unreadable
from etl_project.sources.intake import archive
from etl_project.sources.names import shown
from etl_project.sources.reading import judge, small_files
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.spec import SourceSpec


class NoLongerAccepted(Permanent):
    """A file in the archive does not fit the contract any more. Retrying does not help; the old rows are intact."""


Carry = Callable[[date, archive.Archived], carried.Carried | None]
"""What need not be read of a day; see `carried.find`."""


def rows(
    spec: SourceSpec,
    days: Mapping[date, archive.Archived],
    rejects: list[pa.Table],
    day_was_read: Callable[[date, int, int], None],
    scratch: Path,
    carry: Carry | None,
) -> pa.RecordBatchReader:
    """The typed rows of the archived files, day by day and file by file in name order; fills `rejects` on the way.

    `day_was_read` is told each day that was read to its end, the number of its rejects and of its skipped records.
    """

    def batches() -> Iterator[pa.RecordBatch]:
        with _reader(spec, days, scratch, carry) as read:
            yield from batches_of(read)

    def batches_of(read: Callable[[date], Iterator[judge.Batch]]) -> Iterator[pa.RecordBatch]:
        for day in days:
            rejected = skipped = 0
            for batch in read(day):
                if batch.rejects.num_rows:
                    rejects.append(batch.rejects)
                    rejected += batch.rejects.num_rows
                skipped += batch.skipped.num_rows
                yield from batch.rows.to_batches()
            day_was_read(day, rejected, skipped)

    return pa.RecordBatchReader.from_batches(judge.rows_schema(spec), batches())


@contextmanager
def _reader(
    spec: SourceSpec, days: Mapping[date, archive.Archived], scratch: Path, carry: Carry | None
) -> Iterator[Callable[[date], Iterator[judge.Batch]]]:
    """What gives the batches of a day. Files that hold many days are read once for all of them."""
    if spec.day_from is None:
        yield lambda day: _read_changed(spec, days[day], day, carry)
        return
    with DayReader(spec, {day: one.accepted for day, one in days.items()}, scratch) as reader:

        def read(day: date) -> Iterator[judge.Batch]:
            try:
                yield from reader.day(day)
            except Unreadable as error:
                raise _no_longer_accepted(error.version.name, day, error.refused, error.version.path) from error

        yield read


def _read_changed(
    spec: SourceSpec, archived: archive.Archived, day: date, carry: Carry | None
) -> Iterator[judge.Batch]:
    """The batches of accepted files; of those that are what they were, the rows that are there."""
    known = carry(day, archived) if carry is not None else None
    for some in known.among(archived.accepted) if known is not None else [archived.accepted]:
        if isinstance(some, pa.Table):
            yield judge.Batch(some, judge.REJECTS_SCHEMA.empty_table(), judge.nothing_skipped(spec))
        else:
            yield from _read_again(spec, some, day)


def _read_again(spec: SourceSpec, accepted: Sequence[archive.Accepted], day: date) -> Iterator[judge.Batch]:
    """The batches of accepted files. They were judged good once: now the contract has changed, or a file has."""
    files = (SourceFile(version.path, version.name, day, accepted=True) for version in accepted)
    for batch, verdicts in small_files.read(files, spec, day):
        for verdict in verdicts:
            file, refused = verdict.file, verdict.refused
            if refused is not None:
                raise _no_longer_accepted(file.name, day, refused, file.path) from refused
        yield batch


def _no_longer_accepted(name: str, day: date, refused: Exception, path: Path) -> NoLongerAccepted:
    return NoLongerAccepted(
        f"{shown(name)} of {day} was accepted once, and no longer is: {refused}. Nothing was changed. "
        f"Retrying does not help. Mend the contract, or send the file again. It lies at {path}."
    )
