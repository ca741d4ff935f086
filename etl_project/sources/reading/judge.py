"""Judge: a file against its contract. Typed rows, rejected rows, or no use at all.

Belongs here: putting format, typing and limits together, and counting. Does not belong here: moving the file anywhere
(`receive`); the same reading serves a first judgement and every rebuild from the archive.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import partial, reduce
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources import lateness, names
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.reading import encodings
from etl_project.sources.reading.chunk import Chunk, Load
from etl_project.sources.reading.file_format import SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.formats import FORMATS
from etl_project.sources.reading.in_order import in_order
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


_Reject = tuple[int, str | None, str, str]
"""Line, first column at fault, reason, raw text."""


class Batch(NamedTuple):
    """Some rows of a file, and the records among them that are none; both in the order of the file."""

    rows: pa.Table
    rejects: pa.Table


def converter_of(spec: SourceSpec) -> Converter:
    """What makes values of the texts of a file of this source."""
    return Converter(ZoneInfo(spec.time_zone), spec.settings_of_columns)


def rows_schema(spec: SourceSpec) -> pa.Schema:
    """The columns of `Batch.rows`: those of the contract that the file fills, then day, file and line."""
    columns = [(target.name, target.arrow) for target in spec.targets]
    return pa.schema([*columns, ("batch_date", pa.date32()), ("source_file", pa.string()), ("source_line", pa.int64())])


def read(path: Path, spec: SourceSpec, name: str, day: date, *, accepted: bool = False) -> Iterator[Batch]:
    """Every record of the file, as a row or as a reject; at least one batch, in bounded memory.

    `name` is the file's own name (it says how the file is compressed); `path` is where its bytes are now.
    `accepted`: the file comes from the archive, so it fitted the contract of its time.
    `source_line` is the physical line on which the record starts, the header being line 1.
    Raises FileRefused (retrying does not help) for a file that cannot be used, possibly after some batches: a caller
    uses what it was given only when the iteration ends well.
    """
    records = rejected = 0
    first: pa.Table | None = None
    types = converter_of(spec)
    loads = chunks(SourceFile(path, name, day, accepted), spec)
    for batch in in_order(partial(_batch, load, spec, types, names.shown(name), day) for load in loads):
        records += batch.rows.num_rows + batch.rejects.num_rows
        if batch.rejects.num_rows and first is None:
            first = batch.rejects.slice(0, 1)
        rejected += batch.rejects.num_rows
        yield batch
    refused = too_many_rejected(spec, records, rejected, first) if first is not None else None
    if refused is not None:
        raise refused


def too_many_rejected(spec: SourceSpec, records: int, rejected: int, first: pa.Table) -> FileRefused | None:
    """Why a file with so many rejects cannot be used; None where it can. `first` holds the first of them."""
    if rejected <= spec.max_rejected_ratio * records:
        return None
    reason = f"line {first['source_line'][0]}: {first['reason'][0]}"
    found = f"{rejected} of {records} rows cannot be used; the first is {reason}"
    return FileRefused("too many rejected rows", found, f"at most {spec.max_rejected_ratio:.2%} (max_rejected_ratio)")


def count_rows(spec: SourceSpec, version: Accepted) -> int:
    """How many records an archived file has, typed or not: what rows and rejects together must come to."""
    loads = chunks(SourceFile(version.path, version.name, accepted=True), spec)
    return sum(len(chunk.lines) + len(chunk.broken) for chunk in in_order(loads))


def chunks(sent: SourceFile, spec: SourceSpec) -> Iterator[Load]:
    """The records of a file as text. Raises FileRefused as `read` does, but for the rejects."""
    return FORMATS[spec.format].chunks(sent, encodings.settled(sent, spec))


def _batch(load: Load, spec: SourceSpec, converter: Converter, file: str, day: date) -> Batch:
    return typed(load(), spec, converter, file, day)


def typed(sent: Chunk, spec: SourceSpec, converter: Converter, file: str, day: date) -> Batch:
    """The records of a chunk as rows and rejects."""
    chunk = _without_missing(sent, spec)
    values = [converter.column(text, target) for text, target in zip(chunk.texts, spec.targets, strict=True)]
    beyond = lateness.beyond(values, spec, day)
    bad = _bad(chunk, values, spec, beyond)
    count = len(chunk.lines)
    rejects: list[_Reject] = [(broken.line, None, broken.reason, broken.raw) for broken in chunk.broken]
    arrays = [*values, pa.repeat(pa.scalar(day), count), pa.repeat(pa.scalar(file), count), chunk.lines]
    rows = pa.Table.from_arrays(arrays, schema=rows_schema(spec))
    if bad is not None:
        rejects += _unusable(sent, chunk, values, bad, spec, converter, beyond)
        rows = rows.filter(pc.invert(bad))
    return Batch(rows, _rejects_table(sorted(rejects, key=lambda reject: reject[0]), file, day))


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


def _bad(chunk: Chunk, typed: list[pa.Array], spec: SourceSpec, beyond: lateness.Beyond | None) -> pa.Array | None:
    """Which records have a text that is no value, no value where one is needed, or a day that the file may not carry;
    None when all are well."""
    masks = [beyond.mask] if beyond is not None else []
    for text, values, target in zip(chunk.texts, typed, spec.targets, strict=True):
        if values.null_count == (text.null_count if target.nullable else 0):
            continue
        masks.append(pc.and_(values.is_null(), text.is_valid()) if target.nullable else values.is_null())
    return reduce(pc.or_, masks) if masks else None


def _unusable(
    sent: Chunk,
    chunk: Chunk,
    typed: list[pa.Array],
    bad: pa.Array,
    spec: SourceSpec,
    converter: Converter,
    beyond: lateness.Beyond | None,
) -> Iterator[_Reject]:
    """The records at fault, each with everything that is wrong with it. `sent`: the chunk as it came."""
    which = pc.indices_nonzero(bad).to_pylist()
    for at, raw in zip(which, chunk.raw(which), strict=True):
        first: str | None = None
        reasons = []
        for as_sent, text, values, target in zip(sent.texts, chunk.texts, typed, spec.targets, strict=True):
            if values[at].is_valid or (target.nullable and not text[at].is_valid):
                continue
            first = first or target.name
            value = text[at].as_py()
            missing = _why_missing(as_sent[at].as_py(), target)
            reasons.append(missing if value is None else converter.why_not(value, target))
        if beyond is not None and beyond.mask[at].as_py():
            first = first or beyond.column
            reasons.append(beyond.why(at))
        yield chunk.lines[at].as_py(), first, "; ".join(reasons), raw


def _why_missing(as_sent: str | None, target: SourceColumn) -> str:
    """Why there is no value where one is needed."""
    if as_sent is None or not as_sent.strip():
        return f"{target.name}: empty"
    return f"{target.name}: {as_sent!r} is one of null_values, and the column is NOT NULL"


def _rejects_table(rejects: list[_Reject], file: str, day: date) -> pa.Table:
    lines, columns, reasons, raws = ([reject[n] for reject in rejects] for n in range(4))
    return pa.table([[day] * len(rejects), [file] * len(rejects), lines, columns, reasons, raws], schema=REJECTS_SCHEMA)
