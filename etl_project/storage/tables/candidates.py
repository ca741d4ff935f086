"""Candidates in a database: rows that did not pass their checks, in tables of their own beside the user's.

Belongs here: keeping such rows once the write that brought them is rolled back, finding them, and dropping them with
the next commit of their partition, in its transaction. Does not belong here: running the checks (`Request.audit`).

They lie in the schema `<home>_candidates`, a table each, under names that nobody reads by accident; `etl_candidates`
there says which is which. Nothing of this exists before the first candidate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import duckdb

from etl_project import faults
from etl_project.storage.contract import Candidate, Commit, ReadRefused, Request, Slice, Table
from etl_project.storage.judging.commits import from_json, to_json
from etl_project.storage.judging.messages import ChecksFailed
from etl_project.storage.judging.publishing import no_candidate, not_even_kept
from etl_project.storage.sql import has_table, quote, unique

if TYPE_CHECKING:
    from etl_project.storage.tables.engine import Engine
    from etl_project.storage.tables.write import TableWrite

NAME = "etl_candidates"

_COLUMNS = """(
    asset VARCHAR NOT NULL,
    partition_key VARCHAR NOT NULL,
    rows_in VARCHAR NOT NULL,
    record VARCHAR NOT NULL,
    reason VARCHAR NOT NULL
)
"""


class Candidates:
    """The candidates of the database that the connection looks at."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, home: str = "main") -> None:
        self._connection = connection
        self.schema = f"{home}_candidates"
        self.name = f"{quote(self.schema)}.{NAME}"

    def keep(self, record: Commit, query: str, binds: Mapping[str, Any], columns: Sequence[str], reason: str) -> None:
        """Keep the rows of the query, in place of an earlier candidate of the partition.

        Inside the caller's transaction: a kill leaves the candidate of before.
        """
        if not self._there():
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(self.schema)}")
            self._connection.execute(f"CREATE TABLE IF NOT EXISTS {self.name} {_COLUMNS}")
        self.drop(record.asset, [record.partition])
        rows_in = unique("candidate")
        names = ", ".join(map(quote, columns))
        self._connection.execute(
            f"CREATE TABLE {self._qualified(rows_in)} AS SELECT * FROM ({query}) AS rows_of_it({names})", binds or None
        )
        self._connection.execute(
            f"INSERT INTO {self.name} VALUES (?, ?, ?, ?, ?)",
            [record.asset, record.partition or "", rows_in, to_json(record), reason],
        )

    def of(self, assets: Iterable[str]) -> list[Candidate]:
        """The candidates of these assets, by asset and partition."""
        if not self._there():
            return []
        query = (
            f"SELECT record, reason FROM {self.name} WHERE asset IN (SELECT unnest($assets::VARCHAR[])) "
            "ORDER BY asset, partition_key"
        )
        found = self._connection.execute(query, {"assets": list(assets)}).fetchall()
        return [Candidate(from_json(record), reason) for record, reason in found]

    def read(self, table: Table, key: str | None, identity: str) -> Slice:
        """A slice of a candidate. Raises ReadRefused where there is none."""
        found = self._places(table.asset, [key]) if self._there() else []
        if not found:
            raise ReadRefused(no_candidate(table, key))
        return Slice(f"SELECT * FROM {self._qualified(found[0])}", {}, identity)

    def drop(self, asset: str, keys: Sequence[str | None]) -> None:
        """Let go of the candidates of these partitions, inside the caller's transaction."""
        found = self._places(asset, keys) if self._there() else []
        for rows_in in found:
            self._connection.execute(f"DROP TABLE {self._qualified(rows_in)}")
        if found:
            self._connection.execute(
                f"DELETE FROM {self.name} WHERE rows_in IN (SELECT unnest($gone::VARCHAR[]))", {"gone": found}
            )

    def _places(self, asset: str, keys: Sequence[str | None]) -> list[str]:
        query = (
            f"SELECT rows_in FROM {self.name} WHERE asset = $asset "
            "AND partition_key IN (SELECT unnest($keys::VARCHAR[]))"
        )
        bound = {"asset": asset, "keys": [key or "" for key in keys]}
        return [rows_in for (rows_in,) in self._connection.execute(query, bound).fetchall()]

    def _there(self) -> bool:
        return has_table(self._connection, NAME, self.schema)

    def _qualified(self, rows_in: str) -> str:
        return f"{quote(self.schema)}.{quote(rows_in)}"


def kept_instead(
    engine: Engine,
    connection: duckdb.DuckDBPyConnection,
    write: TableWrite,
    failed: ChecksFailed,
    request: Request,
) -> ChecksFailed:
    """Keep what a write of one partition had brought, now that it is rolled back; gives the error to raise.

    One transaction of its own: a kill leaves the partition as it was, with its candidate of before or this one.
    """
    [record], rows = write.records, write.inserted()
    try:
        connection.begin()
        request.still_owner()
        engine.candidates(connection).keep(record, rows.query, rows.binds, rows.columns, failed.reason)
        faults.reach(f"{engine.name}.before_candidate")
        engine.commit(connection)
        faults.reach(f"{engine.name}.candidate_kept")
    except (duckdb.Error, OSError) as error:
        with suppress(duckdb.Error):
            connection.rollback()
        there = engine.candidates(connection).of([record.asset])
        return failed if any(one.record == record for one in there) else not_even_kept(failed, error)
    except BaseException:
        with suppress(duckdb.Error):
            connection.rollback()
        raise
    return failed
