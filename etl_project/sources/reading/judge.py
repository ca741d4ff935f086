"""Judge: a file against its contract. Typed rows, rejected rows, or no use at all.

Belongs here: putting format, typing and limits together, and counting. Does not belong here: moving the file anywhere
(`admit`); the same reading serves a first judgement and every rebuild from the archive.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import date
from functools import partial, reduce
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources import lateness, names
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.reading import header_again, members, own_days, small_content
from etl_project.sources.reading.chunk import Chunk, Load
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.formats import FORMATS
from etl_project.sources.reading.in_order import in_order
from etl_project.sources.reading.rows import skipping, twins
from etl_project.sources.reading.rows.control_totals import ControlTotals
from etl_project.sources.reading.rows.repeated_hours import RepeatedHours
from etl_project.sources.reading.rows.row_rules import Fault, RowRules
from etl_project.sources.reading.rows.skipping import Parted, Skipping, without_footer
from etl_project.sources.reading.values.convert import Converter
from etl_project.sources.reading.values.value_forms import without_missing
from etl_project.sources.spec import SourceColumn, SourceSpec

__all__ = ["REJECTS_SCHEMA", "Batch", "FileRefused", "count_rows", "read", "rows_schema"]

REJECTS_SCHEMA = pa.schema(
    [
        ("batch_date", pa.date32()),
        ("source_file", pa.string()),
        ("source_line", pa.int64()),
        ("column_name", pa.string()),
        ("reason", pa.string()),
        ("raw_text", pa.string()),
    ]
)


_Reject = tuple[int, str | None, str, str, date | None]
"""Line, first column at fault, reason, raw text, and its day where its file has none."""


class Batch(NamedTuple):
    """Some rows of a file, the records among them that are none, and those that were left out; in the file's order."""

    rows: pa.Table
    rejects: pa.Table
    skipped: pa.Table


class Counted(NamedTuple):
    """The records of a file, and how many of them are no rows by the settings of the source."""

    records: int
    skipped: int


class _Typed(NamedTuple):
    """A chunk as it came, without its missing values, typed, and what was left out of it."""

    sent: Chunk
    chunk: Chunk
    columns: list[pa.Array]
    skipped: pa.Table


def converter_of(spec: SourceSpec) -> Converter:
    """What makes values of the texts of a file of this source."""
    return Converter(ZoneInfo(spec.time_zone), spec.settings_of_columns)


def rows_schema(spec: SourceSpec) -> pa.Schema:
    """The columns of `Batch.rows`: those of the contract that the file fills, then day, file and line."""
    columns = [(target.name, target.arrow) for target in spec.targets]
    return pa.schema([*columns, ("batch_date", pa.date32()), ("source_file", pa.string()), ("source_line", pa.int64())])


def read(
    path: Path, spec: SourceSpec, name: str, day: date, *, accepted: bool = False, losers: pa.Table | None = None
) -> Iterator[Batch]:
    """Every record of the file, as a row, as a reject or as one left out; at least one batch, in bounded memory.

    `name` is the file's own name (it says how the file is compressed); `path` is where its bytes are now.
    `accepted`: the file comes from the archive, so it fitted the contract of its time. `losers`: the lines that are
    rejects because a row of the day has their key (see `twins_of`); by default those of this file alone.
    `source_line` is the physical line on which the record starts, the header being line 1.
    Raises FileRefused (retrying does not help) for a file that cannot be used, possibly after some batches: a caller
    uses what it was given only when the iteration ends well.
    """
    return read_file(SourceFile(path, name, day, accepted), spec, losers)


def read_file(sent: SourceFile, spec: SourceSpec, losers: pa.Table | None = None) -> Iterator[Batch]:
    """As `read`. In a file without a day (`SourceFile.span`), rows and rejects have days of their own; that of a reject
    is NULL where it says none."""
    records = rejected = 0
    first: pa.Table | None = None
    totals = ControlTotals(spec)
    # A file of the archive had few enough rejects of its own; how many rows lose against those of files that came after
    # it, or before, says nothing about it.
    excused = len(losers["source_line"].unique()) if losers is not None and sent.accepted else 0
    if losers is None and spec.rows.on_duplicate_key is not None:
        [losers] = twins_of(spec, [sent])
    for batch in _read(sent, spec, losers):
        records += batch.rows.num_rows + batch.rejects.num_rows
        if batch.rejects.num_rows and first is None:
            first = batch.rejects.slice(0, 1)
        rejected += batch.rejects.num_rows
        totals.see(batch.rows, batch.rejects.num_rows, batch.skipped)
        yield batch._replace(rows=batch.rows.select(rows_schema(spec).names))
    refused = too_many_rejected(spec, records, rejected - excused, first) if first is not None else None
    if refused is not None:
        raise refused
    if not excused:
        totals.compare()


def too_many_rejected(spec: SourceSpec, records: int, rejected: int, first: pa.Table) -> FileRefused | None:
    """Why a file with so many rejects cannot be used; None where it can. `first` holds the first of them."""
    if rejected <= spec.max_rejected_ratio * records:
        return None
    reason = f"line {first['source_line'][0]}: {first['reason'][0]}"
    found = f"{rejected} of {records} rows cannot be used; the first is {reason}"
    return FileRefused("too many rejected rows", found, f"at most {spec.max_rejected_ratio:.2%} (max_rejected_ratio)")


def twins_of(
    spec: SourceSpec, files: Sequence[SourceFile], days: Sequence[Collection[date]] | None = None
) -> Sequence[pa.Table | None]:
    """For each of the files the lines that are rejects because another row of their day has their key.

    The files are of one day, or have none; then `days` says which of its days each file counts for (all of them).
    Raises FileRefused like `read`.
    """
    if spec.rows.on_duplicate_key is None:
        return [None] * len(files)
    wanted: Sequence[Collection[date] | None] = [None] * len(files) if days is None else days
    rows = [
        (names.shown(file.name), (of_days(one.rows, some) for one in _read(file, spec, None)))
        for file, some in zip(files, wanted, strict=True)
    ]
    return twins.losers(rows, spec)


def of_days(records: pa.Table, days: Collection[date] | None) -> pa.Table:
    """The rows or rejects of these days; all of them where none are named."""
    if days is None:
        return records
    return records.filter(pc.is_in(records["batch_date"], pa.array(list(days), pa.date32())))


def count_rows(spec: SourceSpec, version: Accepted) -> Counted:
    """How many records an archived file has, typed or not: what rows, rejects and skipped ones must come to."""
    content = small_content.of(version.file, version.name, spec)
    may_skip = skipping.may_skip(spec)
    if content is not None and not may_skip:
        plain = FORMATS[spec.format].count_plain(content, spec)
        if plain is not None:
            return Counted(plain, 0)
    file = SourceFile(version.path, version.name, accepted=True, content=content)
    counted = None if may_skip else members.count(file, spec)
    if counted is not None:
        return Counted(counted, 0)
    parts = _parts(chunks(file, spec), spec)
    records = skipped = 0
    for part in parts:
        records += len(part.chunk.lines) + len(part.chunk.broken) + part.skipped.num_rows
        skipped += part.skipped.num_rows
    return Counted(records, skipped)


def count_by_day(spec: SourceSpec, sent: SourceFile) -> dict[date | None, Counted]:
    """As `count_rows` of a file without a day, by the days of its records; those that say none are under None.

    Only the column that says the day is looked at, so this agrees with what was read by no other way than being right.
    """
    assert sent.span is not None
    span, converter = own_days.Span(*sent.span), converter_of(spec)
    records: Counter[date | None] = Counter()
    skipped = 0
    for part in _parts(chunks(sent, spec), spec):
        chunk = _without_missing(part.chunk, spec)
        typed = [
            converter.column(text, target) if target.name == spec.day_from else text
            for text, target in zip(chunk.texts, spec.targets, strict=True)
        ]
        records.update(own_days.counts(own_days.of(chunk.texts, typed, spec, span).days))
        records[None] += len(chunk.broken) + part.skipped.num_rows
        skipped += part.skipped.num_rows
    return {day: Counted(count, skipped if day is None else 0) for day, count in records.items()}


def chunks(sent: SourceFile, spec: SourceSpec) -> Iterator[Load]:
    """The records of a file as text. Raises FileRefused as `read` does, but for the rejects."""
    return members.chunks(sent, spec)


def typed(sent: Chunk, spec: SourceSpec, file: str, day: date) -> Batch:
    """The records of a chunk as rows and rejects, where no file has to be judged by itself (`needs_whole_files`)."""
    work = _Work(spec, SourceFile(Path(), file, day, accepted=True), None)  # Its files were looked at one by one.
    batch = work.judged(work.typed(Parted(sent, skipping.schema(spec).empty_table())))
    return batch._replace(rows=batch.rows.select(rows_schema(spec).names))


def nothing_skipped(spec: SourceSpec) -> pa.Table:
    """`Batch.skipped` where no record was left out."""
    return skipping.schema(spec).empty_table()


def needs_whole_files(spec: SourceSpec) -> bool:
    """Whether what a record is may hang on its file: on its place there, or on what else is in it."""
    rows = spec.rows
    sql = " ".join([*(one.sql for one in rows.of_rows), *rows.checks])
    return bool(
        spec.day_from
        or rows.skip_rows_where
        or rows.footer_lines
        or rows.on_duplicate_key
        or RepeatedHours(spec).columns
        or re.search(r"\bsource_(file|line)\b", sql, re.IGNORECASE)
    )


def _parts(loads: Iterator[Load], spec: SourceSpec) -> Iterator[Parted]:
    skipping = Skipping(spec)
    parts = in_order(partial(_part, load, skipping) for load in loads)
    return without_footer(parts, spec) if spec.rows.footer_lines else parts


def _part(load: Load, skipping: Skipping) -> Parted:
    return skipping.part(load())


def _read(sent: SourceFile, spec: SourceSpec, losers: pa.Table | None) -> Iterator[Batch]:
    """The batches of a file with all columns that a key may name; whole chunks are worked on side by side.

    What depends on the place of a record in the file (footers, repeated hours) is settled between the threads.
    """
    work = _Work(spec, sent, losers)
    hours = RepeatedHours(spec)
    loads = chunks(sent, spec)
    if not spec.rows.footer_lines and not hours.columns:
        return in_order(partial(work.all_of, load) for load in loads)
    typed = in_order(partial(work.typed, part) for part in _parts(loads, spec))
    return (work.judged(one._replace(columns=hours.settled(one.chunk.texts, one.columns))) for one in typed)


class _Work:
    """What is done to each chunk of one file, in any thread."""

    def __init__(self, spec: SourceSpec, sent: SourceFile, losers: pa.Table | None) -> None:
        self._spec, self._sent, self._losers = spec, sent, losers
        self._file, self._day = names.shown(sent.name), sent.day
        self._span = own_days.Span(*sent.span) if sent.span is not None else None
        self._converter = converter_of(spec)
        self._skipping = Skipping(spec)
        self._rules = RowRules(spec)

    def all_of(self, load: Load) -> Batch:
        """From the text of a chunk to its rows."""
        return self.judged(self.typed(self._skipping.part(load())))

    def typed(self, part: Parted) -> _Typed:
        """The records with their values, NULL where there is none. Raises FileRefused where one is the header again."""
        header_again.refuse(part.chunk, self._spec, self._sent)
        chunk = _without_missing(part.chunk, self._spec)
        pairs = zip(chunk.texts, self._spec.targets, strict=True)
        return _Typed(part.chunk, chunk, [self._converter.column(*pair) for pair in pairs], part.skipped)

    def judged(self, typed: _Typed) -> Batch:
        """The rows with their computed columns, and the rejects."""
        chunk, spec = typed.chunk, self._spec
        count = len(chunk.lines)
        beyond: lateness.Beyond | own_days.OwnDays | None
        if self._span is None:
            beyond, days = lateness.beyond(typed.columns, spec, self._day), pa.repeat(pa.scalar(self._day), count)
        else:
            beyond = own_days.of(chunk.texts, typed.columns, spec, self._span)
            days = beyond.days
        bad = _bad(chunk, typed.columns, spec, beyond)
        added = [days, pa.repeat(pa.scalar(self._file), count), chunk.lines]
        rows = pa.Table.from_arrays([*typed.columns, *added], schema=rows_schema(spec))
        rejects: list[_Reject] = [(broken.line, None, broken.reason, broken.raw, self._day) for broken in chunk.broken]
        if bad is not None:
            rejects += _unusable(typed, bad, spec, self._converter, beyond, days)
            rows = rows.filter(pc.invert(bad))
        rows, faults = self._rules.faults(rows, self._day)
        if self._losers is not None:
            faults += twins.faults(rows, self._losers)
        if faults:
            places = range(count) if bad is None else pc.indices_nonzero(pc.invert(bad)).to_pylist()
            rejects += _at_fault(chunk, faults, places, days)
            ill = pa.array(sorted({fault.at for fault in faults}), pa.int64())
            rows = rows.filter(pc.invert(pc.is_in(pa.array(range(rows.num_rows), pa.int64()), ill)))
        rejected = _rejects_table(sorted(rejects, key=lambda one: one[0]), self._file)
        return Batch(rows, rejected, typed.skipped)


def _at_fault(chunk: Chunk, faults: Sequence[Fault], places: Sequence[int], days: pa.Array) -> Iterator[_Reject]:
    """The rows that break a rule, each once with all that is wrong. `places`: where the rows are in the chunk."""
    by_row: dict[int, list[Fault]] = {}
    for fault in faults:
        by_row.setdefault(places[fault.at], []).append(fault)
    for (at, found), raw in zip(by_row.items(), chunk.raw(list(by_row)), strict=True):
        reasons = "; ".join(fault.reason for fault in found)
        yield chunk.lines[at].as_py(), found[0].column, reasons, raw, days[at].as_py()


def _without_missing(chunk: Chunk, spec: SourceSpec) -> Chunk:
    """The chunk with NULL for every text that means no value."""
    settings = spec.settings_of_columns
    if not settings:
        return chunk
    empty_is_null = FORMATS[spec.format].empty_is_null
    texts = [
        without_missing(text, settings[target.name], empty_is_null)
        for text, target in zip(chunk.texts, spec.targets, strict=True)
    ]
    return chunk._replace(texts=texts)


def _bad(
    chunk: Chunk, typed: list[pa.Array], spec: SourceSpec, beyond: lateness.Beyond | own_days.OwnDays | None
) -> pa.Array | None:
    """Which records have a text that is no value, no value where one is needed, or a day that the file may not carry;
    None when all are well."""
    masks = [beyond.mask] if beyond is not None else []
    for text, values, target in zip(chunk.texts, typed, spec.targets, strict=True):
        if values.null_count == (text.null_count if target.nullable else 0):
            continue
        masks.append(pc.and_(values.is_null(), text.is_valid()) if target.nullable else values.is_null())
    return reduce(pc.or_, masks) if masks else None


def _unusable(
    typed: _Typed,
    bad: pa.Array,
    spec: SourceSpec,
    converter: Converter,
    beyond: lateness.Beyond | own_days.OwnDays | None,
    days: pa.Array,
) -> Iterator[_Reject]:
    """The records at fault, each with everything that is wrong with it."""
    sent, chunk = typed.sent, typed.chunk
    rows = pc.indices_nonzero(bad)
    which = rows.to_pylist()
    # As Python's values, column by column: asked for one by one, they take longer than all else about a bad record.
    cells = [
        (target, as_sent, text.take(rows).to_pylist(), values.take(rows).is_valid().to_pylist())
        for as_sent, text, values, target in zip(sent.texts, chunk.texts, typed.columns, spec.targets, strict=True)
        if values.null_count
    ]
    for number, (at, raw) in enumerate(zip(which, chunk.raw(which), strict=True)):
        first: str | None = None
        reasons = []
        for target, as_sent, texts, is_value in cells:
            text = texts[number]
            if is_value[number] or (target.nullable and text is None):
                continue
            first = first or target.name
            reasons.append(
                _why_missing(as_sent[at].as_py(), target) if text is None else converter.why_not(text, target)
            )
        if beyond is not None and beyond.mask[at].as_py():
            first = first or beyond.column
            reasons.append(beyond.why(at))
        yield chunk.lines[at].as_py(), first, "; ".join(reasons), raw, days[at].as_py()


def _why_missing(as_sent: str | None, target: SourceColumn) -> str:
    """Why there is no value where one is needed."""
    if as_sent is None or not as_sent.strip():
        return f"{target.name}: empty"
    return f"{target.name}: {as_sent!r} is one of null_values, and the column is NOT NULL"


def _rejects_table(rejects: list[_Reject], file: str) -> pa.Table:
    lines, columns, reasons, raws, days = ([reject[n] for reject in rejects] for n in range(5))
    return pa.table([days, [file] * len(rejects), lines, columns, reasons, raws], schema=REJECTS_SCHEMA)
