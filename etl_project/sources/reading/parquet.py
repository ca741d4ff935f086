"""Parquet: row groups into chunks of records.

Belongs here: what a Parquet value is as text. Does not belong here: what the text means (`convert`); going through
text gives a Parquet file exactly the rules of every other format, so that nothing is rounded or cut on the way.

There are no lines: `source_line` is the number of the row, from 1. An empty text is text, not NULL.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl_project.sources.reading import header
from etl_project.sources.reading.chunk import Chunk, Load
from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.spec import SourceSpec

_ROWS = 65_536


def chunks(path: Path, spec: SourceSpec) -> Iterator[Load]:
    """The records of the file.

    Raises FileRefused for a file that is no Parquet, has other columns than the source's, or is too large expanded.
    """
    if not path.stat().st_size:
        raise FileRefused("empty file", "0 bytes", "a Parquet file")
    try:
        with pq.ParquetFile(path) as file:
            positions = header.positions(file.schema_arrow.names, spec)
            size = sum(file.metadata.row_group(one).total_byte_size for one in range(file.num_row_groups))
            _refuse_large(size, spec)
            first = 1
            expanded = 0
            for batch in file.iter_batches(_ROWS):
                expanded += batch.nbytes
                _refuse_large(expanded, spec)
                chunk = _chunk(batch, positions, first, spec)
                yield lambda chunk=chunk: chunk  # type: ignore[misc]
                first += batch.num_rows
            if first == 1:
                empty = [pa.array([], pa.string()) for _ in spec.columns]
                yield lambda: Chunk(empty, pa.array([], pa.int64()), lambda which: [], [])
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise FileRefused("unreadable file", str(error).splitlines()[0], "a Parquet file") from None


def _refuse_large(size: int, spec: SourceSpec) -> None:
    if size > spec.max_expanded_bytes:
        expected = f"at most {spec.max_expanded_bytes} bytes (max_expanded_bytes)"
        raise FileRefused("too large once decompressed", f"{size} bytes", expected)


def _chunk(batch: pa.RecordBatch, positions: Sequence[int], first: int, spec: SourceSpec) -> Chunk:
    def raw(which: Sequence[int]) -> list[str]:
        return [json.dumps(batch.slice(one, 1).to_pylist()[0], default=str, ensure_ascii=False) for one in which]

    texts = [_texts(batch.column(at), name) for at, name in zip(positions, spec.columns, strict=True)]
    return Chunk(texts, pa.array(range(first, first + batch.num_rows), pa.int64()), raw, [])


def _texts(values: pa.Array, name: str) -> pa.Array:
    try:
        texts = pc.cast(values, pa.string())
    except pa.ArrowException:
        found = f"column {name!r} of type {values.type}"
        raise FileRefused("wrong columns", found, "columns of numbers, text, dates, times or booleans") from None
    if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        return _without_exponent(texts)
    return texts


def _without_exponent(texts: pa.Array) -> pa.Array:
    """Numbers written out: 1e-05 is 0.00001."""
    if not pc.any(pc.match_substring_regex(texts, "[eE]")).as_py():
        return texts
    return pa.array([None if text is None else _written_out(text) for text in texts.to_pylist()], pa.string())


def _written_out(text: str) -> str:
    return format(Decimal(text), "f") if "e" in text.lower() else text
