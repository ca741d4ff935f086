"""Engine: what one kind of database gives, so that partitions can be replaced in its tables.

Belongs here: the questions that `tables` asks of whatever database it works in, with the answers that most give. A new
engine is one module in `engines`: a subclass that opens its database, names it, and says what its errors mean. Does not
belong here: what is done inside the transaction (`write`), or around it (`store`).

Every engine is reached through DuckDB: its own file, or a catalog that DuckDB attaches. The connections that it opens
have that catalog as their current database, and their sessions are in UTC.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import duckdb

from etl_project.storage.contract import Commit, Scope, Table, WriteRefused
from etl_project.storage.deployment import Deployment, Tenant
from etl_project.storage.judging.messages import DataFault
from etl_project.storage.tables.candidates import Candidates
from etl_project.storage.tables.records import Records
from etl_project.storage.tables.shape import Known, Shape
from etl_project.storage.tables.table import SqlTable
from etl_project.storage.tables.versions import Versions


class Conflict(Exception):
    """Another connection touched what this transaction touches: it was rolled back, and may be tried again."""


class Engine(ABC):
    """One database. The methods that are not abstract are right for every catalog with keys and DuckDB's own SQL."""

    name: str
    """The word before the steps at which a test can stop a write: `<name>.before_commit`."""

    schema: str = "main"
    """Where the commit records lie, and the tables of assets that name no schema."""

    keyed: bool = True
    """Whether the catalog keeps primary keys. Without, `fence` alone keeps two writers apart."""

    comparable: bool = True
    """Whether a table's keys, checks and defaults can be compared with an edited contract, and the table be changed."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Which database this is, for messages; two engines with the same one look at the same rows."""

    @abstractmethod
    def writing(self, wait_seconds: float) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection that may write, closed when the block ends, however it ends; the database is made if need be.

        Raises StoreBusy (retrying helps) when somebody else keeps it for longer than `wait_seconds`.
        """

    @abstractmethod
    def looking(self, wait_seconds: float) -> AbstractContextManager[duckdb.DuckDBPyConnection | None]:
        """A connection for a look; None when there is no database yet. Raises StoreBusy (retrying helps)."""

    @abstractmethod
    def meaning(self, error: Exception) -> Exception:
        """What an error of a transaction means to the caller.

        A Conflict is tried again, on the same connection, renewed; WriteRefused and StoreUnavailable are raised.
        """

    def refusal_to_write(self) -> str | None:
        """Why nothing may be written there, in one line, where a server can be asked; None where it may, or where only
        a try can tell. Raises as `looking` does."""
        return None

    def table(self, connection: duckdb.DuckDBPyConnection, table: Table) -> SqlTable:
        """The asset's table: its qualified name, whether it is there, its columns and key, and making it."""
        return SqlTable(connection, table, self.schema)

    def known(self, connection: duckdb.DuckDBPyConnection, there: SqlTable, found: Shape) -> Known:
        """The shape of a table, as DuckDB has read it, with what only the database itself knows."""
        return Known(found)

    def records(self, connection: duckdb.DuckDBPyConnection) -> Records:
        """The commit records of this database."""
        return Records(connection, self.schema, self.keyed)

    def turn(self, table: Table, wait_seconds: float) -> AbstractContextManager[None]:
        """Wait for those who write the table, from before the transaction until after its COMMIT.

        For patience only: that two writers never both win is not its business. Nothing to do where writers wait for
        each other as they open the database. Raises StoreBusy (retrying helps), naming who is in the way.
        """
        return nullcontext()

    def tenants(self) -> Mapping[str, Tenant]:
        """By asset which deployment writes its table; nothing where only one can, or where nothing is noted."""
        return {}

    def take_over(self, assets: Iterable[str], deployment: Deployment) -> None:
        """From now on the tables of these assets are written by this deployment, and by no other one.

        Raises WriteRefused (retrying does not help) where it is nobody's, StoreUnavailable (it does).
        """
        raise WriteRefused(f"{self.identity} is no database on a server: no deployment has it for itself.")

    def renew(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the connection fit for another try after a conflict; what is registered on it stays."""
        return

    def rolled_back(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Forget what was made in a transaction that is rolled back, where the connection does not by itself."""
        return

    def versions(self, connection: duckdb.DuckDBPyConnection) -> Versions:
        """The kept versions of this database."""
        return Versions(connection, self.schema)

    def candidates(self, connection: duckdb.DuckDBPyConnection) -> Candidates:
        """The rows of this database that did not pass their checks."""
        return Candidates(connection, self.schema)

    def fence(self, connection: duckdb.DuckDBPyConnection, table: Table, scope: Scope) -> None:
        """Make two writers of one partition collide, an empty one included; first thing in the transaction.

        Nothing to do where the primary key of the commit records does it: the second to claim a record fails.
        """
        return

    def describe(self, connection: duckdb.DuckDBPyConnection, records: Sequence[Commit]) -> None:
        """Say in the database's own history what is about to be committed, where it has one."""
        return

    def commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Send COMMIT. Its answer may be lost: the records say then what became of it."""
        connection.commit()

    def fault_of_data(self, error: duckdb.Error) -> str | None:
        """What an error of an INSERT says about the rows that were to go in; None where they are not at fault."""
        return str(error) if isinstance(error, duckdb.IntegrityError | duckdb.DataError) else None

    def written(self, connection: duckdb.DuckDBPyConnection) -> int | None:
        """How many rows the open transaction has written so far; None where a query writes none.

        0 of a transaction that has written: the database does not count them.
        """
        return None

    def may_be_anothers(self, connection: duckdb.DuckDBPyConnection, fault: DataFault) -> bool:
        """Whether what broke a key may be rows of a commit that is still under way, and not the data's fault."""
        return False
