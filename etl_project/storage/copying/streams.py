"""Streams: rows from one database into another one, and the proof that they are the same there.

Belongs here: what the copies of tables and of versions share. Nothing is held in memory but a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

import duckdb

from etl_project.storage.contract import Scope, Table, WriteRefused
from etl_project.storage.fetch import arrow_reader
from etl_project.storage.judging import judgement, row_tally
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.judging.row_tally import EMPTY, Tally
from etl_project.storage.sql import quote, unique

_BATCH_ROWS = 100_000


class Side(NamedTuple):
    """Rows of one database: `relation` is a table, or a query in brackets with no values to bind."""

    connection: duckdb.DuckDBPyConnection
    relation: str

    def tally(self, names: Sequence[str]) -> Tally:
        """How many rows there are, and the fingerprint of these columns of all of them."""
        return row_tally.tally(self.connection, self._rows(names)).get(0, EMPTY)

    def column_hashes(self, names: Sequence[str]) -> dict[str, int | None]:
        """The sum of the hashes of each of these columns."""
        return row_tally.column_hashes(self.connection, self._rows(names))

    def _rows(self, names: Sequence[str]) -> row_tally.Rows:
        there = self.connection.sql(f"SELECT * FROM {self.relation}")
        types = {name.lower(): kind for name, kind in zip(there.columns, there.types, strict=True)}
        columns = [Typed(name, quote(name), types[name.lower()]) for name in names]
        return judgement.placed(self.relation, columns, Table("", "", partition_column=None), Scope.whole())


def lossless(connection: duckdb.DuckDBPyConnection) -> None:
    """Let types that Arrow has no name for keep theirs between two connections of DuckDB."""
    connection.execute("SET arrow_lossless_conversion = true")


def pour(source: Side, target: Side, names: Sequence[str]) -> None:
    """Insert the rows into the target, inside the transaction that is open there."""
    columns = ", ".join(map(quote, names))
    name = unique("etl_copied")
    found = source.connection.execute(f"SELECT {columns} FROM {source.relation}")
    with closing(arrow_reader(found, _BATCH_ROWS)) as reader:
        target.connection.register(name, reader)
        try:
            target.connection.execute(f"INSERT INTO {target.relation} ({columns}) SELECT {columns} FROM {quote(name)}")
        finally:
            target.connection.unregister(name)


def refuse_other(source: Side, target: Side, names: Sequence[str], what: str, expected: Tally) -> None:
    """Read back what was written, value by value. Raises WriteRefused naming the columns that are not the same."""
    if target.tally(names) == expected:
        return
    given, kept = source.column_hashes(names), target.column_hashes(names)
    wrong = [name for name in names if given[name] != kept[name]]
    raise WriteRefused(
        f"{what}: what was read back is not what was written, in {', '.join(map(repr, wrong)) or 'its rows'}: the "
        "target does not hold these values as they are, or the table there has other types. Nothing was changed; "
        "retrying does not help. Give the column a type that both hold (docs/which-deployment.md has them)."
    )
