"""JSON Lines: blocks of lines into chunks of records.

Belongs here: what a line of JSON gives as text for each column. Does not belong here: what the text means (`convert`).

A line is one object. A number is taken as it is written, text as it is (an empty text is text, not NULL), true and
false as these words; a missing key and null are NULL; an empty line is no record. A key that the source does not
have, a repeated key or a nested value breaks the record. There is no header: a file in which no record has a
certain column has the wrong columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from etl_project.sources.reading.chunk import Broken, Chunk, Load
from etl_project.sources.reading.csv.grammar import bare, lines_of
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.spec import SourceSpec


class _BrokenRecord(Exception):
    """The line is no record; the message says why."""


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, repeated keys included."""


def chunks(blocks: Iterator[bytes], spec: SourceSpec) -> Iterator[Load]:
    """The records of the file. Raises FileRefused, at its end, when a column of the source occurs in none of them."""
    line = 1
    seen: set[str] = set()
    records = 0
    for block in blocks:
        lines = lines_of(block.decode("utf-8"))
        chunk = _chunk(lines, line, spec, seen)
        records += len(chunk.lines)
        line += len(lines)
        yield lambda chunk=chunk: chunk  # type: ignore[misc]
    missing = [name for name in spec.columns if name not in seen]
    if records and missing:
        raise FileRefused("wrong columns", f"missing {', '.join(map(repr, missing))}", ", ".join(spec.columns))


def _chunk(lines: Sequence[str], first_line: int, spec: SourceSpec, seen: set[str]) -> Chunk:
    columns: list[list[str | None]] = [[] for _ in spec.columns]
    starts: list[int] = []
    raws: list[str] = []
    broken: list[Broken] = []
    for line, text in enumerate(lines, first_line):
        if not bare(text):
            continue
        try:
            record = _record(text, spec)
        except _BrokenRecord as error:
            broken.append(Broken(line, str(error), bare(text)))
            continue
        seen.update(record)
        starts.append(line)
        raws.append(bare(text))
        for values, name in zip(columns, spec.columns, strict=True):
            values.append(record.get(name))
    texts = [pa.array(values, pa.string()) for values in columns]
    return Chunk(texts, pa.array(starts, pa.int64()), lambda which: [raws[one] for one in which], broken)


def _record(line: str, spec: SourceSpec) -> dict[str, str | None]:
    try:
        pairs = json.loads(line, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_Object)
    except ValueError as error:
        raise _BrokenRecord(f"no JSON: {error}") from None
    except RecursionError:
        raise _BrokenRecord("no JSON that can be read: nested too deeply") from None
    if not isinstance(pairs, _Object):
        raise _BrokenRecord("JSON, but no object")
    record: dict[str, str | None] = {}
    for key, value in pairs:
        if key in record:
            raise _BrokenRecord(f"the key {key!r} is repeated")
        if key not in spec.columns:
            raise _BrokenRecord(f"the key {key!r} is not expected")
        record[key] = _text(key, value)
    return record


def _text(key: str, value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return None
    if not isinstance(value, str):
        raise _BrokenRecord(f"the value of {key!r} is nested")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise _BrokenRecord(f"the value of {key!r} is no valid Unicode") from None
    return value
