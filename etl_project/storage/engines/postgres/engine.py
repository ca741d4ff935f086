"""The engine: one PostgreSQL database, opened for as long as a block lasts.

Belongs here: connections, what errors mean, and the store on such a database.

Reading and comparing is DuckDB's, over COPY out of the server in its binary format; new rows go in by COPY in the same
format, and what they replace is deleted in the server, all in one transaction of the level REPEATABLE READ. Two
writers of one partition, an empty one included, claim the same commit record: its primary key lets one of them win, the
other is rolled back and tries again on a fresh connection.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import duckdb

from etl_project.storage.contract import StoreBusy, Table, WriteRefused
from etl_project.storage.deployment import Deployment, Tenant, Writer
from etl_project.storage.engines.postgres import attach, described
from etl_project.storage.engines.postgres.address import PostgresAddress, address_of
from etl_project.storage.engines.postgres.table import LONGEST_BYTES, PostgresTable
from etl_project.storage.engines.server import rights, tenants
from etl_project.storage.engines.server.errors import clean, is_conflict, of_server
from etl_project.storage.interrupted import ended_at_once
from etl_project.storage.tables.engine import Conflict, Engine
from etl_project.storage.tables.records import KNOWN, NAME, Records
from etl_project.storage.tables.shape import Known, Shape
from etl_project.storage.tables.store import TableStore
from etl_project.storage.tables.table import SqlTable
from etl_project.storage.tables.versions import Versions

_OF_THE_DATA = (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError, duckdb.IntegrityError)
_MADE_BY_ANOTHER = re.compile(
    r'(?:relation|schema) "[^"]*" already exists|tuple concurrently updated|could not open relation with OID'
)
"""Somebody made the same table, or changed it, since the transaction began."""
_LOCKED = "due to lock timeout"
_FAULT_OF_DATA = re.compile(
    r"violates (?:unique|not-null|check|foreign key|exclusion) constraint|violates row-level security"
    r"|conflicting key value violates|no partition of relation|violates partition constraint|value too long for type"
    r"|numeric field overflow|out of range|NULL-byte|multidimensional arrays|invalid byte sequence"
    r"|index row (?:size|requires)|row is too big"
)


class ServerRecords(Records):
    """The commit records, in a database that others may have made."""

    def prepare(self) -> None:
        """As for every catalog. Raises WriteRefused (retrying does not help) for a database of a newer version."""
        unknown = self.columns() - KNOWN
        if unknown:
            raise WriteRefused(
                f"The commit records in {self.name} have columns that this version does not know "
                f"({', '.join(sorted(unknown))}): a newer version of the project has written there. Nothing was "
                "changed; retrying does not help. Install that version here, too."
            )
        super().prepare()


class Postgres(Engine):
    """A PostgreSQL database."""

    name = "postgres"
    schema = "public"
    comparable = False

    def __init__(
        self,
        address: PostgresAddress,
        settings: Mapping[str, str | int],
        scratch: Path,
        wait_seconds: float,
        writer: Writer = None,
    ) -> None:
        """`settings` are DuckDB's, set on every connection; what does not fit into memory goes beneath `scratch`.

        `wait_seconds`: how long a statement waits for somebody else's lock in the server. `writer`: who writes.
        """
        self.address = address
        self._settings = dict(settings)
        self._scratch = scratch
        self._wait_seconds = wait_seconds
        self._writer = writer

    @property
    def identity(self) -> str:
        """The address, without its password."""
        return self.address.shown

    @contextmanager
    def writing(self, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write.

        Raises StoreUnavailable (retrying helps), WriteRefused and ExtraMissing (it does not).
        """
        with self._opened(read_only=False) as connection:
            yield connection

    @contextmanager
    def looking(self, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """A connection for a look, which waits for no writer. Raises as above."""
        with self._opened(read_only=True) as connection:
            yield connection

    def refusal_to_write(self) -> str | None:
        """What the server says of the role's rights."""
        return rights.refusal(self.address, NAME)

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
        """Attach the database anew: after a conflict, with new connections and nothing kept of the old snapshot."""
        attach.detach(connection)
        self._attach(connection, read_only=False)

    def rolled_back(self, connection: duckdb.DuckDBPyConnection) -> None:
        """DuckDB keeps tables in mind that went with the transaction."""
        connection.execute("CALL pg_clear_cache()")

    def table(self, connection: duckdb.DuckDBPyConnection, table: Table) -> PostgresTable:
        """The asset's table."""
        return PostgresTable(connection, table, self.schema)

    def known(self, connection: duckdb.DuckDBPyConnection, there: SqlTable, found: Shape) -> Known:
        """The shape of a table, as the server has it."""
        return described.known(connection, there, found)

    def records(self, connection: duckdb.DuckDBPyConnection) -> Records:
        """The commit records of this database."""
        return ServerRecords(connection, self.schema, self.keyed)

    def versions(self, connection: duckdb.DuckDBPyConnection) -> Versions:
        """The kept versions of this database, in tables whose names are not cut off."""
        return Versions(connection, self.schema, longest_bytes=LONGEST_BYTES)

    def written(self, connection: duckdb.DuckDBPyConnection) -> int:
        """As the server counts them: a query may call what writes, `postgres_query` or a function behind a view."""
        counted = "sum(n_tup_ins + n_tup_upd + n_tup_del)"
        query = f"SELECT coalesce({counted}, 0)::bigint AS n FROM pg_stat_xact_all_tables"
        [[found]] = attach.ask(connection, query)
        return int(found)

    def fault_of_data(self, error: duckdb.Error) -> str | None:
        """What the server, or DuckDB's way there, does not take of the rows."""
        said = str(error)
        if _FAULT_OF_DATA.search(said) or isinstance(error, duckdb.IntegrityError | duckdb.DataError):
            return clean(self.address, said)
        return None

    def meaning(self, error: Exception) -> Exception:
        """A conflict, what the data or the SQL did, what a person has to mend, else the server's fault."""
        said = str(error)
        if is_conflict(said) or _MADE_BY_ANOTHER.search(said):
            return Conflict(clean(self.address, said))
        if _LOCKED in said:
            return StoreBusy(
                f"{self.identity}: somebody else holds a lock there (LOCK TABLE, ALTER TABLE, an open transaction): "
                f"{clean(self.address, said)}. Nothing was changed; retrying helps once it is let go."
            )
        meant = of_server(self.address, said)
        if isinstance(error, _OF_THE_DATA) and not isinstance(meant, WriteRefused):
            return WriteRefused(
                f"{self.identity}: {clean(self.address, said)}. Nothing was changed; retrying does not help."
            )
        return meant

    @contextmanager
    def _opened(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        with attach.opened(self.address, self._settings, self._scratch) as connection:
            self._attach(connection, read_only=read_only)
            with ended_at_once(connection):
                yield connection

    def _attach(self, connection: duckdb.DuckDBPyConnection, *, read_only: bool) -> None:
        try:
            attach.attach(connection, self.address, self._wait_seconds, read_only=read_only)
        except duckdb.Error as error:
            # The cause would be shown with the error, in DuckDB's words.
            raise of_server(self.address, str(error)) from None


class PostgresStore(TableStore):
    """Tables and their commit records in one PostgreSQL database; see the contract in `storage.contract`.

    A kill at any instruction leaves what the last COMMIT left. Readers wait for nobody. Raises StoreBusy after
    `wait_seconds` behind other writers of the table (retrying helps).

    Rows are replaced by DELETE and COPY: constraints, grants, views, indexes, comments and partitions of a table stay.
    What was inserted is read back before COMMIT, so a value that the server does not hold exactly is refused by name.
    """

    has_nanoseconds = False

    def __init__(
        self,
        url: str,
        wait_seconds: float = 60.0,
        settings: Mapping[str, str | int] | None = None,
        scratch: str | Path | None = None,
        writer: Writer = None,
    ) -> None:
        """`url` is `postgresql://user:password@host:port/database`, as libpq takes it. `writer` says which deployment
        writes; without, nobody's tables are refused.

        Raises UnknownPlace and ExtraMissing (retrying does not help).
        """
        beside = Path(tempfile.gettempdir() if scratch is None else scratch)
        super().__init__(Postgres(address_of(url), settings or {}, beside, wait_seconds, writer), wait_seconds)
