"""Row SQL: expressions over one row at a time, in a database of their own that nothing else is in.

Belongs here: the one way in which SQL of a source meets its rows while a file is judged. A row for which an expression
fails is told from one for which it gives NULL, and no row keeps the others from their values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Self

import duckdb
import pyarrow as pa

from etl_project import settings
from etl_project.declare import warehouse
from etl_project.storage import StoreBusy, StoreUnavailable, quote

RAW = "raw_rows"
_FUNCTION = re.compile(r"Function with name \"?([^\"\s]+)\"? does not exist")


class RowSql:
    """Runs expressions over Arrow tables, from any thread. Times are UTC."""

    def __init__(self) -> None:
        self._connection = duckdb.connect(":memory:", config={"threads": 1})
        self._connection.execute("SET GLOBAL TimeZone = 'UTC'")

    def values(self, rows: pa.Table, expressions: Sequence[str]) -> list[tuple[pa.Array, pa.Array]]:
        """For each expression: for which rows it fails, and its values (NULL where it fails); in the order of rows."""
        tried = ", ".join(f"{guarded(one)} AS e{at}" for at, one in enumerate(expressions))
        wanted = ", ".join(f"e{at} IS NULL AS f{at}, e{at}.v AS v{at}" for at in range(len(expressions)))
        cursor = self._connection.cursor()
        try:
            cursor.register(RAW, rows)
            found = cursor.execute(f"SELECT {wanted} FROM (SELECT {tried} FROM {RAW})").to_arrow_table()
        finally:
            cursor.close()
        columns = [column.combine_chunks() for column in found.columns]
        return list(zip(columns[::2], columns[1::2], strict=True))


def guarded(expression: str) -> str:
    """NULL for a row for which the expression fails, else a struct with its value."""
    return f"TRY(struct_pack(v := ({expression})))"


class Trial:
    """Tries expressions over no rows at all, for what they mean. One database for all of a source's expressions."""

    def __init__(self) -> None:
        self._connection = duckdb.connect(":memory:", config={"threads": 1})
        self._columns: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def over(self, columns: Mapping[str, str]) -> Self:
        """The same, over rows with these columns (name: type)."""
        if columns != self._columns:
            listed = ", ".join(f"{quote(name)} {kind}" for name, kind in columns.items())
            self._connection.execute(f"CREATE OR REPLACE TABLE {RAW} ({listed})")
            self._columns = dict(columns)
        return self

    def why_unusable(self, expression: str) -> str | None:
        """What DuckDB says against the expression; None where it is fine.

        A table that is not known may be known to the warehouse: nothing is said against that. Nor against a function
        that is one of its macros, or where a run keeps the warehouse from being asked.
        """
        try:
            self._connection.execute(f"SELECT ({expression}) FROM {RAW}")
        except duckdb.CatalogException as error:
            named = _FUNCTION.search(str(error))
            macros = _macros() if named is not None else None
            if named is None or macros is None or named[1].lower() in macros:
                return None
            return str(error).splitlines()[0]
        except duckdb.Error as error:
            return str(error).splitlines()[0]
        return None

    def is_of_one_row(self, expression: str) -> bool:
        """Whether the value of a row follows from that row alone: no window, no subquery, nothing drawn by chance."""
        try:
            self._connection.execute(f"SELECT {guarded(expression)} FROM {RAW}")
        except duckdb.Error:
            return False
        return True


def _macros() -> set[str] | None:
    """The functions that somebody has made in the warehouse, in lower case; None where it cannot be asked."""
    try:
        with warehouse(settings.load(), wait_seconds=0).look() as connection:
            query = "SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE NOT internal"
            return set() if connection is None else {name for (name,) in connection.execute(query).fetchall()}
    except (StoreBusy, StoreUnavailable):
        return None
