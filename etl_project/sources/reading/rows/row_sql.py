"""Row SQL: expressions over one row at a time, in a database of their own that nothing else is in.

Belongs here: the one way in which SQL of a source meets its rows while a file is judged. A row for which an expression
fails is told from one for which it gives NULL, and no row keeps the others from their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

from etl_project.storage.sql import quote

RAW = "raw_rows"


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


def why_unusable(expression: str, columns: Mapping[str, str]) -> str | None:
    """What DuckDB says against the expression over rows with these columns (name: type); None where it is fine.

    A function, a macro or a table that is not known may be known to the warehouse: nothing is said against that.
    """
    return _says(columns, f"SELECT ({expression}) FROM {RAW}")


def is_of_one_row(expression: str, columns: Mapping[str, str]) -> bool:
    """Whether the value of a row follows from that row alone: no window, no subquery, nothing drawn by chance."""
    with _empty(columns) as connection:
        try:
            connection.execute(f"SELECT {guarded(expression)} FROM {RAW}")
        except duckdb.Error:
            return False
    return True


def _says(columns: Mapping[str, str], query: str) -> str | None:
    with _empty(columns) as connection:
        try:
            connection.execute(query)
        except duckdb.CatalogException:
            return None
        except duckdb.Error as error:
            return str(error).splitlines()[0]
    return None


def _empty(columns: Mapping[str, str]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.execute(f"CREATE TABLE {RAW} ({', '.join(f'{quote(name)} {kind}' for name, kind in columns.items())})")
    return connection
