"""Sample: what one file says about all that will follow it, from its name and its bytes.

Belongs here: format, compression, encoding, delimiter, header and the date in the name. Does not belong here: the
types of its columns (`column_types`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from etl_project.failures import Permanent
from etl_project.new_source.date_in_name import placed
from etl_project.new_source.encoding import encoding_of
from etl_project.sources import (
    BrokenRecord,
    FileRefused,
    Grammar,
    SourceColumn,
    SourceFile,
    SourceSpec,
    bare,
    compression,
    has_its_end,
    lines_of,
    stream,
)

DELIMITERS = (",", ";", "\t", "|")
RECORDS_LOOKED_AT = 200
LONGEST_HEADER = 200
_VALUE = re.compile(r"[+-]?[0-9]*[.,]?[0-9]+|[0-9]{4}-[0-9]{2}-[0-9]{2}([ T].*)?")
_PARQUET, _GZIP, _ZSTD = b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class CannotUse(Permanent):
    """No source can be made of this. Nothing was written; the message says what would do. Retrying does not help."""


@dataclass(frozen=True)
class Sample:
    """A readable sample file. `types` are those that the file itself declares (Parquet), by name in the header."""

    path: Path
    pattern: str
    day: date
    format: str
    header: tuple[str, ...]
    encoding: str = "utf-8"
    delimiter: str = ","
    types: dict[str, pa.DataType] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ends: bool = True

    def as_text(self) -> SourceSpec:
        """The sample as a source of text columns, named by their number: what types are guessed from."""
        names = [f"column_{number}" for number in range(len(self.header))]
        return _spec(
            format=self.format,
            encoding=self.encoding,
            delimiter=self.delimiter,
            columns=dict(zip(self.header, names, strict=True)),
            types=tuple(SourceColumn(name, "VARCHAR") for name in names),
        )


def look(path: Path) -> Sample:
    """What this file says about itself. Raises CannotUse naming the one thing that is in the way."""
    if not path.name.isprintable():
        raise CannotUse(f"the name {path.name!r} holds characters that cannot be written down in a pattern")
    where = placed(path)
    if isinstance(where, str):
        raise CannotUse(where)
    pattern, day, notes = where
    first = _first_bytes(path)
    try:
        found = _parquet(path, pattern, day, notes) if first.startswith(_PARQUET) else _text(path, pattern, day, notes)
    except FileRefused as refused:
        raise CannotUse(str(refused)) from None
    _refuse_bad_header(found)
    return replace(found, ends=has_its_end(path, path.name, _spec(format=found.format)))


def _first_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise CannotUse("there is no such file" if not path.exists() else "it is no regular file")
    try:
        with path.open("rb") as file:
            first = file.read(8)
    except OSError as error:
        raise CannotUse(f"it cannot be read: {error.strerror}") from None
    if not first:
        raise CannotUse("it is empty; take a file with a header and rows")
    for magic, suffix in ((_GZIP, ".gz"), (_ZSTD, ".zst")):
        if first.startswith(magic) and not path.name.endswith(suffix):
            raise CannotUse(f"it is compressed, and its name does not end in {suffix}, by which compression is known")
    return first


def _parquet(path: Path, pattern: str, day: date, notes: tuple[str, ...]) -> Sample:
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise CannotUse(f"it is no Parquet file that can be read: {str(error).splitlines()[0]}") from None
    types = {one.name: one.type for one in schema}
    return Sample(path, pattern, day, "parquet", tuple(schema.names), types=types, notes=notes)


def _text(path: Path, pattern: str, day: date, notes: tuple[str, ...]) -> Sample:
    encoding = encoding_of(compression.pieces(SourceFile(path, path.name), _spec()))
    if encoding == "cp1252":
        notes = (*notes, "encoding: the file is no UTF-8 and is read as cp1252; look at its accented letters")
    blocks = stream.text_blocks(SourceFile(path, path.name), _spec(encoding=encoding))
    head = next(blocks)
    if head.startswith(_PARQUET):
        raise CannotUse("it is a compressed Parquet file; Parquet is compressed inside, unpack it")
    if head.lstrip().startswith(b"["):
        raise CannotUse("it is one JSON array; write one object a line (JSON Lines)")
    if head.lstrip().startswith(b"{"):
        header = _keys(stream.text_blocks(SourceFile(path, path.name), _spec(encoding=encoding)))
        return Sample(path, pattern, day, "jsonl", header, encoding, notes=notes)
    lines = lines_of(head.decode())[: RECORDS_LOOKED_AT * 4]
    delimiter = max(DELIMITERS, key=lambda one: _fitness(lines, one))
    kind = "tsv" if delimiter == "\t" else "csv"
    return Sample(path, pattern, day, kind, _header(lines[0], delimiter), encoding, delimiter, notes=notes)


def _fitness(lines: list[str], delimiter: str) -> tuple[bool, float, int]:
    """How well a delimiter cuts the first records: more than one column, as wide as the header, many columns."""
    grammar = Grammar(delimiter, len("".join(lines)) + 1)
    widths: Counter[int] = Counter()
    header = at = 0
    while at < len(lines) and widths.total() < RECORDS_LOOKED_AT:
        try:
            fields, after = grammar.record(lines, at)
        except BrokenRecord:
            fields, after = [], at + 1
        header = len(fields) if at == 0 else header
        widths[len(fields)] += 1
        at = after
    return header > 1, widths[header] / widths.total(), header


def _header(line: str, delimiter: str) -> tuple[str, ...]:
    try:
        names, _ = Grammar(delimiter, len(line) + 1).record([bare(line) + "\n"], 0)
    except BrokenRecord as error:
        raise CannotUse(f"its first line is no header: {line[:80]!r} ({error})") from None
    values = [name for name in names if _VALUE.fullmatch(name)]
    if values:
        raise CannotUse(f"its first line is no header, but holds the value {values[0]!r}; add a line with column names")
    return tuple(names)


def _keys(blocks: Iterator[bytes]) -> tuple[str, ...]:
    """The keys of all objects, in the order in which they first come."""
    keys: dict[str, None] = {}
    for block in blocks:
        for line in lines_of(block.decode()):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue  # No record: it will be counted among the rejects.
            if isinstance(record, dict):
                _refuse_nested(record)
                keys.update(dict.fromkeys(record))
    return tuple(keys)


def _refuse_nested(record: dict[str, Any]) -> None:
    for key, value in record.items():
        if isinstance(value, dict | list):
            raise CannotUse(f"the value of {key!r} is nested; only flat objects can be read")


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
