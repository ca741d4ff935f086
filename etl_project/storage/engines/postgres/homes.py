"""Homes: which type of PostgreSQL holds the values of one of DuckDB's, each of them, and what has none.

Belongs here: the table of types. What a type holds by its name and not by its values (text with a NUL, dates beyond
the server's) is refused when it is written: what was inserted is read back and compared.
"""

from __future__ import annotations

from typing import Any

_OWN = {
    *("boolean", "smallint", "integer", "bigint", "float", "double", "decimal", "date", "time", "timestamp"),
    *("timestamp with time zone", "time with time zone", "interval", "uuid", "blob"),
}
"""Types that are the same in both."""
_WIDER = {
    **{"tinyint": "SMALLINT", "utinyint": "SMALLINT", "usmallint": "INTEGER", "uinteger": "BIGINT"},
    **{"ubigint": "DECIMAL(20,0)", "hugeint": "DECIMAL(38,0)", "uhugeint": "DECIMAL(38,0)"},
    **dict.fromkeys(("timestamp_s", "timestamp_ms", "timestamp_ns"), "TIMESTAMP"),
    **dict.fromkeys(("varchar", "enum"), "VARCHAR"),
}
"""The home of the others. Values that it does not hold (nanoseconds, 39 digits) are refused one by one."""
_NO_ELEMENTS = {"interval", "time", "time with time zone"}
_SERVER_NAMES = {"DOUBLE": "double precision", "FLOAT": "real", "BLOB": "bytea", "VARCHAR": "text"}


def home_of(kind: Any) -> str | None:
    """The type of a column for such values, as DuckDB names it; None where PostgreSQL has none that is lossless."""
    name = str(kind.id)
    if name in ("list", "array"):
        element = dict(kind.children)["child"]
        inner = None if str(element.id) in (*_NO_ELEMENTS, "list", "array") else home_of(element)
        return None if inner is None else f"{inner}[]"
    return str(kind) if name in _OWN else _WIDER.get(name)


def widened(kind: str) -> str:
    """The home of a type that is given by its name."""
    return _WIDER.get(kind.lower(), kind)


def server_words(kind: str) -> tuple[str, ...]:
    """What the server itself prints of a column that DuckDB sees as this type, where nothing of it is lost on the way.

    A length, a precision of moments, an enumeration or JSON is.
    """
    if kind.endswith("[]"):
        return tuple(f"{word}[]" for word in server_words(kind[:-2]))
    if kind == "VARCHAR":
        return "text", "character varying"
    if kind in ("TIME", "TIMESTAMP"):
        return (f"{kind.lower()} without time zone",)
    return (_SERVER_NAMES.get(kind, kind.lower().replace("decimal", "numeric")),)


def server_name(kind: str) -> str:
    """What the server calls a home."""
    return _SERVER_NAMES.get(kind, kind)
