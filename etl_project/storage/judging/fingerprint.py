"""Fingerprints: one number for the content of a partition, the same in every backend.

Belongs here: how a row is hashed and how the hashes of a partition become text. A row's hash is taken over its
(column name, value) pairs with NULLs left out, so a column added later, the order of the columns and the order of the
rows leave no trace; the rows are summed, not xored, so that duplicates count. Values are brought to one form per kind
before they are hashed, so that a lossless widening of a column leaves no trace either. Numbers count by their bits: the
last digit of a float and the sign of a zero are content.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from etl_project.storage.sql import text

VERSION = "2"
"""Goes into every fingerprint: a change of the algorithm must never look like a change or an equality of content."""

_NARROW_INTEGERS = {"tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger"}
_WIDE_INTEGERS = {"ubigint", "hugeint", "uhugeint"}
_DECIMAL = "DECIMAL(38,18)"
_MICROSECONDS = {"timestamp_s", "timestamp_ms"}


class Typed(NamedTuple):
    """A column as the fingerprint sees it: its name, an SQL expression for its value, and the value's DuckDB type."""

    name: str
    value: str
    type: Any


def row_hash(columns: Sequence[Typed]) -> str:
    """An SQL expression for the hash of a row; columns that are NULL do not take part."""
    parts = [value_hash(column) for column in columns]
    chain = parts[0] if parts else "0::UBIGINT"
    for part in parts[1:]:
        chain = f"xor({chain}, {part})"
    return f"hash({chain})"


def value_hash(column: Typed) -> str:
    """An SQL expression for the hash of one (column name, value) pair; 0 where the value is NULL.

    Hashed once more: DuckDB's hash of a pair is a hash of the name, xored with one of the value. In the xor over the
    columns of a row, equal values of two columns would cancel out, and swapped ones would leave no trace.
    """
    return f"CASE WHEN {column.value} IS NULL THEN 0::UBIGINT ELSE hash({_pair_hash(column)}) END"


def render(rows: int, total: int | None) -> str:
    """The fingerprint of a partition from its number of rows and the sum of their hashes."""
    return f"{VERSION}:{rows}:{total or 0:x}"


def together(one: str, other: str) -> str:
    """The fingerprint of two sets of rows as one."""
    (_, rows, total), (_, more_rows, more) = one.split(":"), other.split(":")
    return render(int(rows) + int(more_rows), int(total, 16) + int(more, 16))


_CANONICAL = {
    **dict.fromkeys(_NARROW_INTEGERS, "BIGINT"),
    **dict.fromkeys(_MICROSECONDS, "TIMESTAMP"),
    **dict.fromkeys(("enum", "interval", "bit", "varchar"), "VARCHAR"),
}


def _pair_hash(column: Typed) -> str:
    """hash(name, value), the value in the form that every lossless type of its kind shares."""
    name, value, kind = text(column.name.lower()), column.value, str(column.type.id)
    if kind == "decimal":
        return _decimal_hash(name, column)
    if kind in _WIDE_INTEGERS:
        return _short_or_text(name, column, "BIGINT", f"({value})::VARCHAR")
    if kind in ("float", "double"):
        zero = f"({value}) = 0 AND signbit({value})"  # DuckDB hashes both zeros alike.
        return f"CASE WHEN {zero} THEN hash({name}, '-0') ELSE hash({name}, ({value})::DOUBLE) END"
    if kind == "timestamp_ns":
        return _short_or_text(name, column, "TIMESTAMP", f"({value})::VARCHAR")
    return f"hash({name}, ({value})::{_CANONICAL[kind]})" if kind in _CANONICAL else f"hash({name}, {value})"


def _decimal_hash(name: str, column: Typed) -> str:
    """Decimals of every precision and scale that are equal in value hash alike."""
    shape = dict(column.type.children)
    if shape["scale"] <= 18 and shape["precision"] - shape["scale"] <= 20:
        return f"hash({name}, ({column.value})::{_DECIMAL})"
    digits = f"({column.value})::VARCHAR"
    if shape["scale"]:
        digits = f"rtrim(rtrim({digits}, '0'), '.')"
    return _short_or_text(name, column, _DECIMAL, digits)


def _short_or_text(name: str, column: Typed, common: str, digits: str) -> str:
    """Hash as the common type where the value fits it exactly, as text where it does not: by value, not by type."""
    short = f"TRY_CAST({column.value} AS {common})"
    fits = f"TRY_CAST({short} AS {column.type}) = {column.value}"
    return f"CASE WHEN {fits} THEN hash({name}, {short}) ELSE hash({name}, {digits}) END"
