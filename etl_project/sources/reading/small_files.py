"""Together: many small files of one day judged at once, with the result that each of them has alone.

Belongs here: joining the records of small files, so that typing costs a call for thousands of records instead of one
for each file, and taking the results apart again. Does not belong here: what makes a record a row (`judge`).

Typing a file of five rows costs as much as typing five thousand. A large or a compressed file is read as ever, alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from etl_project.sources import names
from etl_project.sources.reading import header_again, judge, small_content
from etl_project.sources.reading.chunk import Broken, Chunk
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.rows import skipping
from etl_project.sources.spec import SourceSpec

_ENOUGH_RECORDS = 8_192
_ENOUGH_BYTES = 4 * 2**20


class Verdict(NamedTuple):
    """What came of a file: its rows and rejects counted, or why it cannot be used. `ends_in_a_reject`: its last record
    is one, as far as it was judged together with others."""

    file: SourceFile
    rows: int = 0
    rejected: int = 0
    refused: FileRefused | None = None
    ends_in_a_reject: bool = False


class Judged(NamedTuple):
    """Some rows and rejects in the order of files and lines, and the verdicts on the files that end with them.

    The rows of a file that is refused must not be used; some of them may have come before its verdict.
    """

    batch: judge.Batch
    verdicts: tuple[Verdict, ...]


def read(files: Iterable[SourceFile], spec: SourceSpec, day: date) -> Iterator[Judged]:
    """Every record of the files, in their order; the verdict on each file comes once, with or after its last record.

    A file that is refused raises nothing: its verdict says so. In bounded memory.
    """
    if judge.needs_whole_files(spec):
        every = list(files)
        for file, losers in zip(every, _losers(every, spec), strict=True):
            yield from _alone(file, spec, day, losers)
        return
    group = _Group(spec, day)
    for file in files:
        small = small_content.read(file, spec)
        if small.content is not None:
            group.add(small)
            if group.is_full:
                yield group.judged()
                group = _Group(spec, day)
        else:
            yield group.judged()
            group = _Group(spec, day)
            yield from _alone(file, spec, day, None)
    yield group.judged()


def _losers(files: Sequence[SourceFile], spec: SourceSpec) -> Sequence[pa.Table | None]:
    """For each file the lines that are rejects because another row of the day has their key."""
    try:
        return judge.twins_of(spec, files)
    except FileRefused:
        return [None] * len(files)  # Some file fits no more: its verdict will say which.


def _alone(file: SourceFile, spec: SourceSpec, day: date, losers: pa.Table | None) -> Iterator[Judged]:
    rows = rejected = 0
    try:
        for batch in judge.read(file.path, spec, file.name, day, accepted=file.accepted, losers=losers):
            rows, rejected = rows + batch.rows.num_rows, rejected + batch.rejects.num_rows
            yield Judged(batch, ())
    except FileRefused as refused:
        yield Judged(_empty(spec), (Verdict(file, refused=refused),))
    else:
        yield Judged(_empty(spec), (Verdict(file, rows, rejected),))


class _Group:
    """Small files that are judged at once. Their records are numbered through, which keeps files and lines apart."""

    def __init__(self, spec: SourceSpec, day: date) -> None:
        self._spec, self._day = spec, day
        self._files: list[SourceFile] = []
        self._refused: dict[int, FileRefused] = {}  # By position of the file.
        self._chunks: list[Chunk] = []
        self._file_of: list[np.ndarray] = []  # By number of the record: the position of its file, and its line.
        self._line_of: list[np.ndarray] = []
        self._numbers: list[np.ndarray] = []  # By chunk: the numbers of the records that can be typed.
        self._broken: list[Broken] = []
        self._records = self._size_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether typing these records is worth a call."""
        return self._records >= _ENOUGH_RECORDS or self._size_bytes >= _ENOUGH_BYTES

    def add(self, file: SourceFile) -> None:
        """Read the records of one more file. One that cannot be read is refused, and none of its records count."""
        at = len(self._files)
        self._files.append(file._replace(content=None))
        try:
            chunks = [load() for load in judge.chunks(file, self._spec)]
            for chunk in chunks:
                header_again.refuse(chunk, self._spec, file)
        except FileRefused as refused:
            self._refused[at] = refused
            return
        self._size_bytes += len(file.content or b"")
        for chunk in chunks:
            self._number(chunk, at)

    def _number(self, chunk: Chunk, at: int) -> None:
        """Number the records of a chunk in the order of their lines, broken ones among them."""
        good = chunk.lines.to_numpy()
        lines = np.concatenate([good, np.array([one.line for one in chunk.broken], good.dtype)])
        order = lines.argsort(kind="stable")
        numbers = np.empty(len(lines), np.int64)
        numbers[order] = np.arange(len(lines)) + self._records
        self._records += len(lines)
        self._chunks.append(chunk)
        self._file_of.append(np.full(len(lines), at))
        self._line_of.append(lines[order])
        self._numbers.append(numbers[: len(good)])
        self._broken += [
            one._replace(line=int(number)) for one, number in zip(chunk.broken, numbers[len(good) :], strict=True)
        ]

    def judged(self) -> Judged:
        """Type all records in one go; then each has its own file and line again."""
        if not self._chunks:
            return Judged(_empty(self._spec), tuple(self._verdict(at, 0, 0, None) for at in range(len(self._files))))
        batch = judge.typed(self._joined(), self._spec, "", self._day)
        file_of, line_of = np.concatenate(self._file_of), np.concatenate(self._line_of)
        rows, numbers_of_rows = self._placed(batch.rows, file_of, line_of)
        rejects, numbers_of_rejects = self._placed(batch.rejects, file_of, line_of)
        of_rows, of_rejects = file_of[numbers_of_rows], file_of[numbers_of_rejects]
        last_row, last_reject = (
            dict(zip(of.tolist(), numbers.tolist(), strict=True))
            for of, numbers in ((of_rows, numbers_of_rows), (of_rejects, numbers_of_rejects))
        )
        counts = [np.bincount(of, minlength=len(self._files)).tolist() for of in (of_rows, of_rejects)]
        firsts = dict(zip(of_rejects[::-1].tolist(), range(len(of_rejects) - 1, -1, -1), strict=True))
        return Judged(
            judge.Batch(rows, rejects, batch.skipped),
            tuple(
                self._verdict(
                    at, counts[0][at], counts[1][at], rejects.slice(firsts[at], 1) if at in firsts else None
                )._replace(ends_in_a_reject=last_reject.get(at, -1) > last_row.get(at, -1))
                for at in range(len(self._files))
            ),
        )

    def _joined(self) -> Chunk:
        starts = np.cumsum([0, *map(len, self._numbers)])

        def raw(which: Sequence[int]) -> list[str]:
            chunks = np.searchsorted(starts, which, side="right") - 1
            return [self._chunks[n].raw([at - int(starts[n])])[0] for n, at in zip(chunks, which, strict=True)]

        columns = zip(*(chunk.texts for chunk in self._chunks), strict=True)
        texts = [pa.concat_arrays(column) for column in columns]
        return Chunk(texts, pa.array(np.concatenate(self._numbers)), raw, self._broken)

    def _placed(self, table: pa.Table, file_of: np.ndarray, line_of: np.ndarray) -> tuple[pa.Table, np.ndarray]:
        """The table with its own files and lines instead of numbers, and these numbers."""
        numbers = table["source_line"].to_numpy()
        files = pa.array([names.shown(file.name) for file in self._files], pa.string()).take(pa.array(file_of[numbers]))
        for name, values in (("source_file", files), ("source_line", pa.array(line_of[numbers], pa.int64()))):
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(at), values)
        return table, numbers

    def _verdict(self, at: int, rows: int, rejected: int, first: pa.Table | None) -> Verdict:
        file, refused = self._files[at], self._refused.get(at)
        if refused is None and first is not None:
            refused = judge.too_many_rejected(self._spec, rows + rejected, rejected, first)
        return Verdict(file, refused=refused) if refused is not None else Verdict(file, rows, rejected)


def _empty(spec: SourceSpec) -> judge.Batch:
    none = (judge.rows_schema(spec), judge.REJECTS_SCHEMA, skipping.schema(spec))
    return judge.Batch(*(schema.empty_table() for schema in none))
