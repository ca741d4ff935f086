"""Raw files: which of a source's files in the lake do not have the columns that its contract wants of them.

Belongs here: reading their schemas. A file is left as it is where it only has a narrower number, which reads as the
same value, or a column more than is wanted.
"""

from __future__ import annotations

from datetime import date

import pyarrow as pa

from etl_project import utc
from etl_project.sources import Names, SourceSpec, judge
from etl_project.storage import ParquetStore, conversion


def other_columns(lake: ParquetStore, spec: SourceSpec) -> dict[date, str]:
    """The days whose file lacks a column, or has it with a type that has to be read from the archive again, and why.

    A damaged file is passed over: its day is due anyway.
    """
    declared = judge.rows_schema(spec)
    found: dict[date, str] = {}
    for key, there in lake.schemas(Names.of(spec.name).raw):
        if key is not None and (why := _why(there, declared)):
            found[utc.day_of(key)] = why
    return found


def _why(there: pa.Schema, declared: pa.Schema) -> str:
    missing = [field.name for field in declared if there.get_field_index(field.name) < 0]
    if missing:
        return f"its raw rows have no column {', '.join(missing)}"
    other = [
        f"{field.name} is {there.field(field.name).type}, not {field.type}"
        for field in declared
        if not reads_alike(there.field(field.name).type, field.type)
    ]
    return f"in its raw rows {', '.join(other)}" if other else ""


def reads_alike(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether what lies there as the one type is what would be read as the other.

    A STRUCT has the same fields in the same order: one that is new, or has another name, is in the archive alone.
    """
    if pa.types.is_nested(old) or pa.types.is_nested(new):
        if old.id != new.id or old.num_fields != new.num_fields:
            return False
        pairs = [(old.field(n), new.field(n)) for n in range(new.num_fields)]
        named = pa.types.is_struct(new)  # The element of a list is called differently by every writer.
        return all((not named or one.name == other.name) and reads_alike(one.type, other.type) for one, other in pairs)
    return _text(old) == _text(new) or conversion.keeps_every_text(_text(old), _text(new))


def _text(kind: pa.DataType) -> str:
    """The type as DuckDB calls it, as far as it matters here."""
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "VARCHAR"
    names = {1: "TINYINT", 2: "SMALLINT", 4: "INTEGER", 8: "BIGINT"}
    if pa.types.is_integer(kind):
        return f"{'U' if pa.types.is_unsigned_integer(kind) else ''}{names[kind.byte_width]}"
    return str(kind)
