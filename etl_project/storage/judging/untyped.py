"""Untyped: columns of a query that have no type yet, because none of their values tells one.

Belongs here: finding `NULL AS v`, `[] AS v` and `{'a': NULL} AS v` in what DuckDB makes of a query. Its versions up to
1.5 take them for integers when a table or Arrow is made of them; only the query itself still says what they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import duckdb
import pyarrow as pa

from etl_project.storage.sql import quote

_MAY_BE_NOTHING = ("INTEGER", "NULL")
"""What stands in a type that DuckDB may have made of nothing."""


def of_query(
    connection: duckdb.DuckDBPyConnection, staged: str, statement: str, params: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The columns of a query that have no type yet, at some depth, with what DuckDB says they are. `staged`: the table
    made of it.

    The query is bound once more, not run, and only where a column could be such a one.
    """
    table = connection.table(staged)
    names = _of_integers(table)
    plain = [name for name, kind in zip(table.columns, table.types, strict=True) if str(kind) == "INTEGER"]
    names -= _with_values(connection, staged, [name for name in plain if name in names])
    if not names:
        return {}
    said = connection.execute(f"SELECT {_types(names)} FROM (SELECT * FROM ({statement}) LIMIT 0)", params).fetchall()
    return _partly(names, said)


def of_relation(relation: duckdb.DuckDBPyRelation) -> Mapping[str, Any]:
    """The same for a relation, which is not run either."""
    names = _of_integers(relation)
    return _partly(names, relation.limit(0).aggregate(_types(names)).fetchall()) if names else {}


def of_arrow(connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> Mapping[str, Any]:
    """The same for what Arrow holds, which is not looked at."""
    fields = [field for field in schema if pa.types.is_nested(field.type) and _has_nothing(field.type)]
    if not fields:
        return {}
    return of_relation(connection.from_arrow(pa.schema(fields).empty_table()))


def is_hollow(kind: Any) -> bool:
    """Whether what DuckDB says of a type is nothing at every depth."""
    if kind.id not in ("list", "array", "struct", "map"):
        return bool(kind.id == "null")
    return all(is_hollow(inner) for inner in _inside(kind))


def as_nothing(rows: pa.RecordBatchReader, names: Collection[str]) -> pa.RecordBatchReader:
    """The rows with these columns in types of Arrow that say that there is no value."""
    schema = pa.schema(
        [field.with_type(_nothing(field.type)) if field.name in names else field for field in rows.schema]
    )

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            columns = [
                pa.array(column.to_pylist(), field.type) if field.name in names else column
                for field, column in zip(schema, batch.columns, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _of_integers(rows: duckdb.DuckDBPyRelation) -> set[str]:
    kinds = zip(rows.columns, map(str, rows.types), strict=True)
    return {name for name, kind in kinds if any(word in kind for word in _MAY_BE_NOTHING)}


def _with_values(connection: duckdb.DuckDBPyConnection, staged: str, names: Collection[str]) -> set[str]:
    if not names:
        return set()
    counts = ", ".join(f"count({quote(name)})" for name in names)
    [found] = connection.execute(f"SELECT {counts} FROM {quote(staged)}").fetchall()
    return {name for name, count in zip(names, found, strict=True) if count}


def _types(names: Collection[str]) -> str:
    """One row, whatever there is: what DuckDB calls the types before it makes anything of them."""
    return ", ".join(f"typeof(any_value({quote(name)}))" for name in names)


def _partly(names: Collection[str], said: list[tuple[str, ...]]) -> Mapping[str, Any]:
    kinds = {name: duckdb.sqltype(kind) for name, kind in zip(names, said[0], strict=True)}
    return {name: kind for name, kind in kinds.items() if _is_partly(kind)}


def _is_partly(kind: Any) -> bool:
    if kind.id not in ("list", "array", "struct", "map"):
        return bool(kind.id == "null")
    return any(_is_partly(inner) for inner in _inside(kind))


def _inside(kind: Any) -> list[Any]:
    """The types within a nested one; the length of an ARRAY stands among them and is none."""
    return [inner for name, inner in kind.children if not (kind.id == "array" and name == "size")]


def _has_nothing(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_has_nothing(kind.field(n).type) for n in range(kind.num_fields))
    return bool(pa.types.is_null(kind))


def _nothing(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_map(kind):
        return kind  # Arrow knows no keys without a type.
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_nothing(field.type)) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_nothing(kind.value_type), kind.list_size)
    return pa.list_(_nothing(kind.value_type)) if pa.types.is_list(kind) else pa.null()
