"""Transactions of a database of tables: how a write is tried, let pass, and settled.

Belongs here: the transaction around a write, what is retried and for how long, whom it is shown to before COMMIT, and
an unknown outcome. What goes on inside is `write`'s, what a store answers besides `store`'s; opening the database, and
what its errors mean, is the engine's.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import duckdb

from etl_project import faults
from etl_project.storage.contract import (
    Commit,
    PartlyCommitted,
    Receipt,
    Request,
    Scope,
    Store,
    StoreBusy,
    StoreUnavailable,
    Table,
)
from etl_project.storage.interrupted import is_interruption
from etl_project.storage.judging.messages import ChecksFailed, DataFault, more_memory, partly, what
from etl_project.storage.judging.payload import Payload
from etl_project.storage.judging.receipts import Lookup, refuse_changed
from etl_project.storage.tables.candidates import kept_instead
from etl_project.storage.tables.engine import Conflict, Engine
from etl_project.storage.tables.inside import Inside, put_back, refuse_spoilt, settings_of
from etl_project.storage.tables.write import TableWrite
from etl_project.utc import now

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_DOUBTS = 8
"""How often a broken key is tried again while another connection is open: 1.3 seconds in all."""


class _Doubtful(Exception):
    """A key is broken, but perhaps by rows of a commit that is still under way."""

    def __init__(self, fault: DataFault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class Transactions(ABC):
    """Writes to the database of an engine, each in one transaction."""

    def __init__(self, engine: Engine, wait_seconds: float = 60.0) -> None:
        self.engine = engine
        self.wait_seconds = wait_seconds

    @property
    def identity(self) -> str:
        """Which database this is."""
        return self.engine.identity

    @abstractmethod
    def seen_from(self, engine: Engine) -> Store:
        """The same store, as another engine shows it."""

    def history(self, asset: str, partition: str | None) -> list[Commit]:
        """All commit records of one partition, oldest first."""
        with self.look() as connection:
            return [] if connection is None else self.engine.records(connection).history(asset, partition)

    @contextmanager
    def look(self) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """A connection for a look, in one transaction; None when there is no file yet. Other processes wait meanwhile.

        Raises StoreBusy (retrying helps) when another process holds the file for longer than `wait_seconds`.
        """
        with self.engine.looking(self.wait_seconds) as connection:
            if connection is not None:
                connection.begin()
            yield connection

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write, closed when the block ends, however it ends. Sessions are in UTC."""
        with self.engine.writing(self.wait_seconds) as connection:
            yield connection

    def _patiently(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        scope: Scope,
        request: Request,
        reads: Sequence[Receipt],
        rows: Payload,
        restricted: bool = False,
    ) -> list[Commit]:
        """Try again while other connections of this process are in the way, for as long as we may wait."""
        deadline, doubts = time.monotonic() + self.wait_seconds, _DOUBTS
        for pause in pauses():
            try:
                with self.engine.turn(table, max(0.0, deadline - time.monotonic())):
                    write = TableWrite(self.engine, connection, table, scope, request, rows, restricted)
                    return self._once(connection, write, request, reads)
            except _Doubtful as doubt:
                doubts -= 1
                if doubts < 0:
                    raise doubt.fault from doubt.fault.__cause__
                time.sleep(pause)
            except Conflict as conflict:
                if time.monotonic() + pause > deadline:
                    raise StoreBusy(
                        f"{what(table, scope)}: other writers of {self.identity} were in the way for "
                        f"{self.wait_seconds:g} s ({conflict}). Nothing was changed; retrying helps."
                    ) from conflict
                time.sleep(pause)
                self.engine.renew(connection)
        raise AssertionError("the pauses never end")

    def _once(
        self,
        connection: duckdb.DuckDBPyConnection,
        write: TableWrite,
        request: Request,
        reads: Sequence[Receipt],
    ) -> list[Commit]:
        """One transaction. Whatever goes wrong before COMMIT rolls it back."""
        try:
            records = self._passed(connection, write, request, self._begun(connection, write))
            self._refuse_changed(connection, reads)
            self.engine.describe(connection, records)
            request.still_owner()
            faults.reach(f"{self.engine.name}.before_commit")
        except DataFault as fault:
            roll_back(connection)
            self.engine.rolled_back(connection)
            # Asked first: who is gone by now has committed, and can be seen.
            doubtful = self.engine.may_be_anothers(connection, fault)
            if write.was_overtaken():
                raise Conflict(str(fault)) from fault
            if doubtful:
                raise _Doubtful(fault) from fault
            if isinstance(fault, ChecksFailed) and len(write.scope.partitions) == 1:
                raise kept_instead(self.engine, connection, write, fault, request) from None
            raise
        except duckdb.Error as error:
            roll_back(connection)
            raise self.engine.meaning(error) from error
        except OSError as error:
            roll_back(connection)
            raise unavailable(self.identity, error) from error
        except BaseException as error:
            if is_interruption(error):
                connection.interrupt()
            roll_back(connection)
            raise
        try:
            self.engine.commit(connection)
            faults.reach(f"{self.engine.name}.after_commit")
        except (duckdb.Error, OSError) as error:
            roll_back(connection)
            return self._settled(records, error)
        return records

    def _begun(self, connection: duckdb.DuckDBPyConnection, write: TableWrite) -> list[Commit]:
        """A transaction with everything done but COMMIT."""
        connection.begin()
        self.engine.fence(connection, write.table, write.scope)
        self.engine.records(connection).prepare()
        return write.run(now())

    def _passed(
        self, connection: duckdb.DuckDBPyConnection, write: TableWrite, request: Request, records: list[Commit]
    ) -> list[Commit]:
        """The records of what was let pass, in a transaction that holds nothing else. Raises ChecksFailed, Conflict."""
        if not self._audit(connection, write, request):
            return records
        connection.rollback()  # What a check may have written, wherever that was, goes with it.
        self.engine.rolled_back(connection)
        faults.reach(f"{self.engine.name}.to_repeat")
        again = write.anew()
        records = self._begun(connection, again)
        again.refuse_other_than(write)
        return records

    def _audit(self, connection: duckdb.DuckDBPyConnection, write: TableWrite, request: Request) -> bool:
        """Show what is about to be committed to whoever has to let it pass. Raises ChecksFailed.

        Gives whether somebody who looked may have written, so that the transaction must not be committed.
        """
        if request.audit is None or not write.changed.partitions:
            return False
        before, inside = settings_of(connection), Inside(self.engine, connection)
        written = self.engine.written(connection)
        try:
            request.audit(write.changed, self.seen_from(inside))
            refuse_spoilt(connection, write.table, write.changed)
            unseen = written == 0 or self.engine.written(connection) != written
        except BaseException:
            roll_back(connection)  # In a transaction that is spoilt nothing can be set.
            with suppress(duckdb.Error):
                put_back(connection, before)
            raise
        put_back(connection, before)
        write.refuse_altered()
        faults.reach(f"{self.engine.name}.audited")
        return unseen or inside.has_to_repeat

    def _settled(self, records: list[Commit], error: Exception) -> list[Commit]:
        """An error came with COMMIT: the commit records say whether it happened; nothing is repeated blindly.

        Raises StoreUnavailable (retrying helps) where they cannot be asked either: it may have happened.
        """
        try:
            found = self.history(records[0].asset, records[0].partition)
        except (StoreUnavailable, StoreBusy) as unreachable:
            raise StoreUnavailable(
                f"Asset {records[0].asset!r}: the answer to COMMIT was lost, and {self.identity} cannot be asked "
                f"whether it happened ({unreachable}). The partitions have all old rows or all new ones; retrying "
                "helps: it changes nothing where they are the new ones."
            ) from None
        if records[0] in found:
            return records
        raise self.engine.meaning(error) from error

    def _one_by_one(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        scope: Scope,
        request: Request,
        reads: Sequence[Receipt],
        rows: Payload,
    ) -> list[Commit]:
        """Some day's data is at fault: one transaction each, so that the good ones are committed."""
        done: list[Commit] = []
        failures: dict[str | None, str] = {}
        for partition in scope.partitions:
            try:
                one = Scope((partition,))
                done += self._patiently(connection, table, one, request, reads, rows, restricted=True)
            except DataFault as fault:
                failures[partition.key] = str(fault)
        if not failures:
            return done
        raise PartlyCommitted(partly(table, scope, len(done), failures), done, failures)

    def _refuse_changed(self, connection: duckdb.DuckDBPyConnection, reads: Sequence[Receipt]) -> None:
        """What was read from here is looked up in this very transaction, what was read elsewhere is asked for there."""

        def lookup(read: Receipt) -> Lookup | None:
            here = getattr(read.store, "identity", None) == self.identity
            return self.engine.records(connection).last if here else None

        refuse_changed(reads, lookup)


def roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    """After a failed COMMIT there is no transaction left to roll back."""
    with suppress(duckdb.Error):
        connection.rollback()


def unavailable(place: str, error: Exception) -> StoreUnavailable:
    """What to say when the machine, not the data, is at fault."""
    more = more_memory(str(error))
    return StoreUnavailable(f"{place}: {error}. Nothing was changed; retrying helps once the cause is gone.{more}")


def pauses() -> Iterator[float]:
    """Seconds to wait between tries, growing, without end."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.6, _LONGEST_PAUSE_SECONDS)
