"""Parquet: row groups into chunks of records.

Belongs here: what a Parquet value is as text. Does not belong here: what the text means (`convert`); going through
text gives a Parquet file exactly the rules of every other format, so that nothing is rounded or cut on the way.

There are no lines: `source_line` is the number of the row, from 1. An empty text is text, not NULL.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl_project.sources.reading import header
from etl_project.sources.reading.chunk import Chunk, Load
from etl_project.sources.reading.file_format import FileFormat, SourceFile
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.json_values import takes_nested

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceSpec

_ROWS = 65_536


def chunks(file: SourceFile, spec: SourceSpec) -> Iterator[Load]:
    """The records of the file.

    Raises FileRefused for a file that is no Parquet, has other columns than the source's, or is too large expanded.
    """
    if not file.path.stat().st_size:
        raise FileRefused("empty file", "0 bytes", "a Parquet file")
    try:
        with pq.ParquetFile(file.path) as parquet:
            columns = _Columns(parquet.schema_arrow, spec)
            match = header.match(columns.names, spec, file)
            groups = range(parquet.num_row_groups)
            size = sum(parquet.metadata.row_group(one).total_byte_size for one in groups)
            _refuse_large(size, spec)
            first = 1
            expanded = 0
            for batch in parquet.iter_batches(_ROWS):
                expanded += batch.nbytes
                _refuse_large(expanded, spec)
                chunk = _chunk(columns.of(batch, first), match, first, spec)
                yield lambda chunk=chunk: chunk  # type: ignore[misc]
                first += batch.num_rows
            if first == 1:
                empty = [pa.array([], pa.string()) for _ in spec.targets]
                yield lambda: Chunk(empty, pa.array([], pa.int64()), lambda which: [], [])
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise FileRefused("unreadable file", str(error).splitlines()[0], "a Parquet file") from None


def _refuse_large(size: int, spec: SourceSpec) -> None:
    if size > spec.max_expanded_bytes:
        expected = f"at most {spec.max_expanded_bytes} bytes (max_expanded_bytes)"
        raise FileRefused("too large once decompressed", f"{size} bytes", expected)


class _Columns:
    """The columns of a file that count, as its sender meant them.

    pandas writes the index of a frame along. Without a name it is the number of the row, and nobody's data; with one it
    is a column like any other, but one that counts evenly is not written out: only its first value and its step are.
    """

    def __init__(self, schema: pa.Schema, spec: SourceSpec) -> None:
        described = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        index = described.get("index_columns", ())
        named = {one.get("field_name"): one.get("name") for one in described.get("columns", ())}
        wanted = header.Names(spec)
        unnamed = {one for one in index if isinstance(one, str) and named.get(one) is None}
        self._written = [name for name in schema.names if name not in unnamed or wanted.target(name) is not None]
        self._counted = {
            one["name"]: (one["start"], one["step"])
            for one in index
            if isinstance(one, dict) and one["name"] is not None and wanted.target(one["name"]) is not None
        }
        self.names = [*self._written, *self._counted]

    def of(self, batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
        """These columns of a batch that starts with row `first`, from 1."""
        if self.names == batch.schema.names:
            return batch
        rows = range(first - 1, first - 1 + batch.num_rows)
        counted = [pa.array([start + step * row for row in rows], pa.int64()) for start, step in self._counted.values()]
        return pa.RecordBatch.from_arrays([*batch.select(self._written).columns, *counted], names=self.names)


def _chunk(batch: pa.RecordBatch, match: header.Match, first: int, spec: SourceSpec) -> Chunk:
    def raw(which: Sequence[int]) -> list[str]:
        return [json.dumps(batch.slice(one, 1).to_pylist()[0], default=str, ensure_ascii=False) for one in which]

    names = batch.schema.names
    texts: dict[int, pa.Array] = {at: _texts(batch.column(at), name, True) for name, at in match.kept}
    for at, target in zip(match.positions, spec.targets, strict=False):
        if at is not None:
            texts[at] = _texts(batch.column(at), names[at], takes_nested(target, spec))
    lines = pa.array(range(first, first + batch.num_rows), pa.int64())
    return Chunk(match.texts(texts, batch.num_rows), lines, raw, [])


def _texts(values: pa.Array, name: str, nested: bool) -> pa.Array:
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _texts(values.dictionary, name, nested).take(values.indices)
    if pa.types.is_nested(kind):
        if not nested:
            raise _unusable(f"column {name!r} of type {kind}")
        return pa.array([None if one is None else _as_json(one, name) for one in values.to_pylist()], pa.string())
    try:
        texts = pc.cast(values, pa.string())
    except pa.ArrowException:
        raise _unusable(f"column {name!r} of type {kind}") from None
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _without_exponent(texts)
    return texts


def _as_json(value: Any, name: str) -> str:
    """A nested value as JSON text; numbers as they would stand in a column of their own."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(key))}:{_as_json(one, name)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_as_json(one, name) for one in value) + "]"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float | Decimal):
        return _written_out(str(value))
    if isinstance(value, bytes):
        raise _unusable(f"bytes in column {name!r}")
    return json.dumps(str(value), ensure_ascii=False)


def _unusable(found: str) -> FileRefused:
    return FileRefused(
        "wrong columns",
        found,
        "numbers, text, dates, times or booleans, and structs and lists of these where the column of the table "
        "is JSON, a STRUCT or a list, or VARCHAR with `nested_values: text`",
    )


def _without_exponent(texts: pa.Array) -> pa.Array:
    """Numbers written out: 1e-05 is 0.00001."""
    if not pc.any(pc.match_substring_regex(texts, "[eE]")).as_py():
        return texts
    return pa.array([None if text is None else _written_out(text) for text in texts.to_pylist()], pa.string())


def _written_out(text: str) -> str:
    return format(Decimal(text), "f") if "e" in text.lower() else text


PARQUET = FileFormat(chunks, empty_is_null=False, is_packed=False)
