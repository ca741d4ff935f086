"""The engine: one DuckLake, opened for as long as a block lasts, and what makes two of its writers collide.

Belongs here: connections, the guard, commit messages, what errors mean, and the store on a lake.

DuckLake checks conflicts per table, by what a transaction deletes and alters. Two writers of an empty partition delete
nothing, so both would commit. The guard is a table of one row for each table of an asset, in the schema `etl_guards`:
its row is updated first in the transaction, so the second of two writers is refused whatever it finds there. DuckLake
has no keys either: the guard is what keeps the commit records of a partition in one line.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb

from etl_project.failures import EtlError
from etl_project.storage.contract import Commit, Scope, Table, WriteRefused
from etl_project.storage.deployment import Deployment, Tenant, Writer
from etl_project.storage.engines.ducklake import attach
from etl_project.storage.engines.ducklake.address import Address, address_of
from etl_project.storage.engines.ducklake.table import LakeTable
from etl_project.storage.engines.server import queue, rights, tenants
from etl_project.storage.engines.server.errors import clean, is_conflict, of_server
from etl_project.storage.sql import has_table, quote
from etl_project.storage.tables.engine import Conflict, Engine
from etl_project.storage.tables.shape import Known, Shape
from etl_project.storage.tables.store import TableStore
from etl_project.storage.tables.table import SqlTable
from etl_project.storage.tables.versions import Versions

GUARDS = "etl_guards"
"""The schema of the guards."""
_NAMED = 100
"""So many partitions are named in the message of a snapshot; the commit records name them all."""
_OF_THE_DATA = (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError, duckdb.IntegrityError)


class DuckLake(Engine):
    """A DuckLake with its catalog in PostgreSQL. Its files are never changed, only added and, later, cleaned up."""

    name = "ducklake"
    keyed = False
    comparable = False

    def __init__(
        self, address: Address, settings: Mapping[str, str | int], scratch: Path, writer: Writer = None
    ) -> None:
        """`settings` are DuckDB's, set on every connection; what does not fit into memory goes beneath `scratch`."""
        self.address = address
        self._settings = dict(settings)
        self._scratch = scratch
        self._writer = writer

    @property
    def identity(self) -> str:
        """The catalog's address, without its password."""
        return self.address.shown

    @contextmanager
    def writing(self, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write; the catalog is made where there is none.

        Raises StoreUnavailable and StoreBusy (retrying helps), WriteRefused and ExtraMissing (it does not).
        """
        with self._opened() as connection:
            if not self._attach(connection, make=False):
                with queue.turn(self.address, "(the catalog)", wait_seconds):
                    self._attach(connection, make=True)
            yield connection

    @contextmanager
    def looking(self, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """A connection for a look, which waits for no writer; None where there is no catalog yet. Raises as above."""
        with self._opened() as connection:
            yield connection if self._attach(connection, make=False, read_only=True) else None

    def refusal_to_write(self) -> str | None:
        """What the server of the catalog says of the role's rights; each write adds a snapshot there."""
        return rights.refusal(self.address, "ducklake_snapshot")

    def turn(self, table: Table, wait_seconds: float) -> AbstractContextManager[None]:
        """One writer of a table at a time, on whatever machine, all of one deployment; see `tenants`."""
        return tenants.turn(self.address, table, wait_seconds, self._writer)

    def tenants(self) -> Mapping[str, Tenant]:
        """As it is noted on the server."""
        return tenants.noted(self.address)

    def take_over(self, assets: Iterable[str], deployment: Deployment) -> None:
        """Note it on the server."""
        tenants.take_over(self.address, assets, deployment)

    def renew(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Attach the lake anew: after a conflict, with new connections and nothing kept of the old snapshot."""
        attach.detach(connection)
        self._attach(connection, make=False)

    def table(self, connection: duckdb.DuckDBPyConnection, table: Table) -> LakeTable:
        """The asset's table, with the rules that DuckLake does not keep."""
        return LakeTable(connection, table, self.schema)

    def known(self, connection: duckdb.DuckDBPyConnection, there: SqlTable, found: Shape) -> Known:
        """The shape of a table. Where there is no default, a lake says NULL."""
        columns = (c._replace(default=None) if c.default == "NULL" else c for c in found.columns)
        return Known(replace(found, columns=tuple(columns)))

    def versions(self, connection: duckdb.DuckDBPyConnection) -> Versions:
        """The kept versions. DuckLake has transactions that delete from one table collide, whatever they delete."""
        return Versions(connection, self.schema, entries_stay=True)

    def fence(self, connection: duckdb.DuckDBPyConnection, table: Table, scope: Scope) -> None:
        """Update the guard of the table: of two transactions that do, only one is committed.

        Raises WriteRefused (retrying does not help) where somebody has emptied the guard.
        """
        here = self.table(connection, table)
        name = f"{here.schema}.{table.name}".lower()
        guard = f"{quote(GUARDS)}.{quote(name)}"
        if not has_table(connection, name, GUARDS):
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(GUARDS)}")
            connection.execute(f"CREATE TABLE {guard} (writes BIGINT NOT NULL)")
            connection.execute(f"INSERT INTO {guard} VALUES (1)")
            return
        [[updated]] = connection.execute(f"UPDATE {guard} SET writes = writes + 1").fetchall()
        if updated != 1:
            raise WriteRefused(
                f"{self.identity}: the guard {guard} of the table {here.name} has {updated} rows instead of one, so "
                "two writers would not collide. Nothing was changed; retrying does not help. Somebody has changed it: "
                f"DELETE FROM {guard}; INSERT INTO {guard} VALUES (0)."
            )

    def describe(self, connection: duckdb.DuckDBPyConnection, records: Sequence[Commit]) -> None:
        """Say in the snapshot which asset, partitions and contents it is; for whoever looks at the lake by itself."""
        first, last = records[0], records[-1]
        keys = first.partition if first.partition == last.partition else f"{first.partition} to {last.partition}"
        told = {
            "asset": first.asset,
            "run_id": first.run_id,
            "partitions": len(records),
            "fingerprints": {record.partition or "": record.fingerprint for record in records[:_NAMED]},
        }
        connection.execute(
            f"CALL {attach.LAKE}.set_commit_message(?, ?, extra_info => ?)",
            ["etl-project", f"{first.asset} {keys or ''}".strip(), json.dumps(told)],
        )

    def meaning(self, error: Exception) -> Exception:
        """A conflict, what the data or the SQL did, what a person has to mend, else the server's fault."""
        said = str(error)
        if is_conflict(said):
            return Conflict(clean(self.address, said))
        meant = of_server(self.address, said)
        if isinstance(error, _OF_THE_DATA) and not isinstance(meant, WriteRefused):
            return WriteRefused(
                f"{self.identity}: {clean(self.address, said)}. Nothing was changed; retrying does not help."
            )
        return meant

    @contextmanager
    def _opened(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with attach.opened(self.address, self._settings, self._scratch) as connection:
            yield connection

    def _attach(self, connection: duckdb.DuckDBPyConnection, *, make: bool, read_only: bool = False) -> bool:
        try:
            return attach.attach(connection, self.address, make=make, read_only=read_only)
        except duckdb.Error as error:
            # The cause would be shown with the error, in DuckDB's words.
            raise self._met(error) from None

    def _met(self, error: duckdb.Error) -> EtlError:
        return of_server(self.address, str(error))


class DuckLakeStore(TableStore):
    """Tables and their commit records in one DuckLake; see the contract in `storage.contract`.

    A kill at any instruction leaves what the last COMMIT left, and perhaps files that no catalog names. Readers wait
    for nobody. Raises StoreBusy after `wait_seconds` behind other writers of the table (retrying helps).

    DuckLake keeps NOT NULL alone: keys and checks of an asset's contract are judged by its writes, before the rows go
    in; rows that others insert by hand are not. Types that Parquet holds inexactly are refused.
    """

    has_intervals = False

    def __init__(
        self,
        url: str,
        data: str | Path,
        wait_seconds: float = 60.0,
        settings: Mapping[str, str | int] | None = None,
        scratch: str | Path | None = None,
        writer: Writer = None,
    ) -> None:
        """`url` is `ducklake:postgres:` and what libpq takes; `data` a folder that every machine sees, or `s3://...`.
        `writer` says which deployment writes; without, nobody's tables are refused.

        Raises UnknownPlace and ExtraMissing (retrying does not help).
        """
        beside = Path(tempfile.gettempdir() if scratch is None else scratch)
        super().__init__(DuckLake(address_of(url, data), settings or {}, beside, writer), wait_seconds)
