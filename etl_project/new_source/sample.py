"""Sample: what one file says about all that will follow it, from its name and its bytes.

Belongs here: format, compression, encoding and the date in the name. Does not belong here: how the lines of text are
parted (`text_start`), the types of the columns (`column_types`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from etl_project.new_source import text_start
from etl_project.new_source.containers import CannotUse, Container, container_of, first_row
from etl_project.new_source.date_in_name import named_without_day, placed
from etl_project.new_source.encoding import encoding_of
from etl_project.new_source.json_sample import columns_of_objects, is_lines, of_documents, of_lines
from etl_project.sources import (
    FileRefused,
    Layout,
    SourceColumn,
    SourceFile,
    SourceSpec,
    bare,
    compression,
    has_its_end,
    lines_of,
    stream,
)

LONGEST_HEADER = 200
_PARQUET = b"PAR1"
LONGEST_DOCUMENT = 64 * 2**20
"""A document on one line may be longer than any line of records."""


@dataclass(frozen=True)
class Sample:
    """A readable sample file. `types` are those that the file itself declares (Parquet), by name in the header.

    `day` is None where neither its name nor its folders say one. `words`: what else `defs.yaml` has to say of how it is
    written. `json`: the columns that hold JSON.
    """

    path: Path
    pattern: str
    day: date | None
    format: str
    header: tuple[str, ...]
    encoding: str = "utf-8"
    delimiter: str = ","
    types: dict[str, pa.DataType] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ends: bool = True
    words: Mapping[str, Any] = field(default_factory=dict)
    json: frozenset[str] = frozenset()

    def as_text(self) -> SourceSpec:
        """The sample as a source of text columns, named by their number: what types are guessed from."""
        names = [f"column_{number}" for number in range(len(self.header))]
        return _spec(
            format=self.format,
            encoding=self.encoding,
            delimiter=self.delimiter,
            columns=dict(zip(self.header, names, strict=True)),
            types=tuple(SourceColumn(name, "VARCHAR") for name in names),
            layout=Layout(**{**self.words, **({"nested_values": "text"} if self.json else {})}),
        )


def look(path: Path) -> Sample:
    """What this file says about itself. Raises CannotUse naming the one thing that is in the way."""
    if not path.name.isprintable():
        raise CannotUse(f"the name {path.name!r} holds characters that cannot be written down in a pattern")
    found = container_of(path)
    where = placed(path)
    if isinstance(where, str):
        raise CannotUse(where)
    pattern, day, notes = (named_without_day(path), None, ()) if where is None else where
    try:
        if found.is_workbook:
            sample = _workbook(path, pattern, day, notes)
        elif _is_parquet(path):
            sample = _parquet(path, pattern, day, notes)
        else:
            sample = _text(found, pattern, day, (*notes, *found.notes))
    except FileRefused as refused:
        raise CannotUse(str(refused)) from None
    _refuse_bad_header(sample)
    ends = has_its_end(path, path.name, _spec(format=sample.format, layout=Layout(**found.words)))
    return replace(sample, ends=ends)


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_PARQUET)) == _PARQUET


def _parquet(path: Path, pattern: str, day: date | None, notes: tuple[str, ...]) -> Sample:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise CannotUse(f"it is no Parquet file that can be read: {str(error).splitlines()[0]}") from None
    types = {one.name: one.type for one in schema}
    return Sample(path, pattern, day, "parquet", tuple(schema.names), types=types, notes=notes)


def _text(found: Container, pattern: str, day: date | None, notes: tuple[str, ...]) -> Sample:
    path, file, words = found.file.path, found.file, dict(found.words)
    spec = _spec(layout=Layout(**words))
    encoding = encoding_of(compression.pieces(file, spec))
    if encoding == "cp1252":
        notes = (*notes, "encoding: the file is no UTF-8 and is read as cp1252; look at its accented letters")
    spec = _spec(encoding=encoding, layout=Layout(**words))
    head = next(stream.text_blocks(file, replace(spec, max_line_bytes=LONGEST_DOCUMENT)))
    if head.startswith(_PARQUET):
        raise CannotUse("it is a compressed Parquet file; Parquet is compressed inside, unpack it")
    if head.lstrip()[:1] in (b"[", b"{"):
        return _json(
            Sample(path, pattern, day, "jsonl", (), encoding, notes=notes, words=words), head.decode(), file, spec
        )
    lines = lines_of(head.decode())[: text_start.RECORDS_LOOKED_AT * 4]
    start = text_start.of(lines)
    if len(start.names) == 1:
        _refuse_fixed_width(lines)
    kind = "tsv" if start.delimiter == "\t" else "csv"
    notes, words = (*notes, *start.notes), words | start.words
    return Sample(path, pattern, day, kind, start.names, encoding, start.delimiter, notes=notes, words=words)


def _json(sample: Sample, head: str, file: SourceFile, spec: SourceSpec) -> Sample:
    """Objects a line, or documents over as many lines as they like, or one array of them."""
    if is_lines(head):
        blocks = stream.text_blocks(file, spec)
        found = columns_of_objects(of_lines(line for block in blocks for line in lines_of(block.decode())))
        kind = "jsonl"
    else:
        found, kind = columns_of_objects(of_documents(stream.texts(file, spec))), "json"
    return replace(sample, format=kind, header=found.names, json=found.json)


def _workbook(path: Path, pattern: str, day: date | None, notes: tuple[str, ...]) -> Sample:
    names, words, more = first_row(path)
    return Sample(path, pattern, day, "xlsx", names, notes=(*notes, *more), words=words)


def _refuse_fixed_width(lines: list[str]) -> None:
    """Fields without a delimiter: where they begin and end, only their sender knows."""
    lengths = {len(bare(line)) for line in lines}
    if len(lines) > 2 and len(lengths) == 1 and all("  " in line for line in lines):
        raise CannotUse(
            "its lines are all of one length, with blanks between the fields: fixed width. Only its sender knows where "
            "fields begin: write the source by hand, with format: fixed and positions: {name: 1-10, ...}"
        )


def _refuse_bad_header(sample: Sample) -> None:
    if not sample.header:
        raise CannotUse("it has no columns")
    repeated = sorted({name for name in sample.header if sample.header.count(name) > 1})
    if repeated:
        raise CannotUse(f"its header names {', '.join(map(repr, repeated))} more than once; columns are found by name")
    for name in sample.header:
        if len(name) > LONGEST_HEADER or not (name.isprintable() or not name):
            raise CannotUse(f"its header holds {name[:80]!r}, which is no name of a column")


def _spec(**settings: Any) -> SourceSpec:
    """A source good enough to read text with; the columns do not matter as long as none are given."""
    plain = {"columns": {"text": "text"}, "types": (SourceColumn("text", "VARCHAR"),), "max_rejected_ratio": 1.0}
    return SourceSpec("sample", ("{date}",), start_date=date.min, **{**plain, **settings})
