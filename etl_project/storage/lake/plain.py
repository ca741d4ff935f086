"""Plain: files that Arrow alone reads as DuckDB would, so that no database is opened for them.

Belongs here: which types those are, and the rows of such files. Does not belong here: every other file, which DuckDB
reads (`parquet`, `mixed`): as text what was a dictionary, for example, and in microseconds what was in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from etl_project.storage.contract import Slice

_TYPES = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
}


def schema_of(schemas: Sequence[pa.Schema]) -> pa.Schema | None:
    """All columns of files that agree, in their order.

    None without files, where some type is another one in DuckDB, and where files spell a name differently.
    """
    kinds = {field.name: field.type for schema in schemas for field in schema}
    if not kinds or not all(map(_type, kinds.values())) or len({name.lower() for name in kinds}) < len(kinds):
        return None
    return pa.schema(kinds)


def types(schema: pa.Schema) -> dict[str, Any]:
    """The columns with the names of their types in DuckDB."""
    return {field.name: _type(field.type) for field in schema}


def _type(kind: pa.DataType) -> str | None:
    if pa.types.is_decimal128(kind) and kind.scale >= 0:
        return f"DECIMAL({kind.precision},{kind.scale})"
    return _TYPES.get(kind)


def rows(piece: Slice) -> pa.Table | None:
    """The rows of a slice, file after file, NULL where a file does not have a column.

    None where they are not those of plain files, and where one of these cannot be read: DuckDB says what is wrong.
    """
    made_as = piece.made_as
    if made_as is None or made_as.schema is None or made_as.sql != piece.sql:
        return None
    schema = pa.schema([made_as.schema.field(name) for name in made_as.columns])
    try:
        tables = [_of(file, schema) for file in made_as.files]
    except (pa.ArrowException, OSError):
        return None
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _of(file: Path, schema: pa.Schema) -> pa.Table:
    with pq.ParquetFile(file) as opened:
        there = opened.schema_arrow.names
        wanted = [name for name in schema.names if name in there]
        table = opened.read(None if len(wanted) == len(there) else wanted)
    columns = [table[field.name] if field.name in wanted else pa.nulls(len(table), field.type) for field in schema]
    return pa.table(columns, schema=schema)
