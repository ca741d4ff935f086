"""The DuckDB file: opening it, waiting for whoever holds it, closing it on every path.

Belongs here: connections, what DuckDB's errors mean, and the store on such a file; nothing about tables. A file is
opened per operation: DuckDB gives the file to one process at a time, and one that leaks shuts everybody else out.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import duckdb

from etl_project import atomic, faults
from etl_project.storage.contract import StoreBusy, WriteRefused
from etl_project.storage.engines.warm import Warm
from etl_project.storage.interrupted import ended_at_once
from etl_project.storage.judging.messages import DataFault
from etl_project.storage.places import local_path
from etl_project.storage.sql import quote
from etl_project.storage.tables.engine import Conflict, Engine
from etl_project.storage.tables.store import TableStore
from etl_project.storage.tables.transactions import pauses, unavailable

CONFIG = {"custom_user_agent": "dagster"}
"""The configuration of dagster-duckdb's resource: one process may open a file only with one configuration."""
_WARM = Warm(CONFIG)

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_LOCKED = re.compile(r"\block\b")
"""Not the block of a damaged file."""
_UNREPLAYED = "Failure while replaying WAL"
"""A look writes into the file where the log of a killed process makes an index (up to DuckDB 1.5), and cannot."""
_OPENING = "Unique file handle conflict"
"""Of two threads that open the file, or one that opens and one that closes it, one is told this for a moment."""
_SPILLED = "duckdb_temp_*"
"""How DuckDB names what it spills."""
_LONGEST_MAKING_SECONDS = 60.0
"""Nobody takes longer to make an empty database: a file that was begun before that is left from a kill."""


class DuckDBFile(Engine):
    """One database file, opened for as long as a block lasts."""

    name = "duckdb"

    def __init__(self, path: Path, settings: Mapping[str, str | int]) -> None:
        """`settings` are DuckDB's, set on every connection."""
        self._path = path
        self._settings = dict(settings)
        self._idle = 0
        self._opened_now = 0

    @property
    def identity(self) -> str:
        """The path."""
        return str(self._path)

    @contextmanager
    def writing(self, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write; the file is created where there is none. Raises StoreBusy (retrying helps)."""
        if not self._path.exists():
            self._make()
        with self._opened(read_only=False, wait_seconds=wait_seconds) as connection:
            self._sweep_spilled(connection)
            yield connection

    @contextmanager
    def looking(self, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """A connection for a look; None when there is no file yet. Raises StoreBusy (retrying helps)."""
        if not self._path.exists():
            yield None
            return
        # DuckDB's settings are those of a whole DuckDB, which others look with too; and what is open is not attached.
        alone = self._settings or self._opened_now
        with nullcontext() if alone else _WARM.attached(self._path) as connection:
            if connection is not None:
                with self._ready(connection):
                    yield connection
                return
        with self._opened(read_only=True, wait_seconds=wait_seconds) as connection:
            yield connection

    @contextmanager
    def kept_open(self, wait_seconds: float, to_read: bool = False) -> Iterator[None]:
        """Open the file once for all that the block asks of it; each opening costs more than most questions.

        Other processes wait for as long as the block lasts; in one `to_read`, which must not write, only those that
        write, and this process's own writers too. Where there is no file yet, none is made or kept open.
        Raises StoreBusy (retrying helps).
        """
        if not self._path.exists():
            yield
            return
        with self.looking(wait_seconds) if to_read else self.writing(wait_seconds):
            self._idle += 1
            try:
                yield
            finally:
                self._idle -= 1

    def meaning(self, error: Exception) -> Exception:
        """Conflicts between connections of this process; what the data or the SQL did; else the machine's fault."""
        text = str(error)
        claimed = isinstance(error, duckdb.ConstraintException) and "sequence:" in text
        if isinstance(error, duckdb.TransactionException) or claimed:
            return Conflict(text)
        if isinstance(error, duckdb.ConstraintException) and "still referenced by a foreign key" in text:
            return WriteRefused(
                f"{self._path}: {text}. Nothing was changed; retrying does not help: DuckDB does not replace rows that "
                "others refer to. Make the other table anew without its FOREIGN KEY, also in its contract."
            )
        if isinstance(
            error, duckdb.ProgrammingError | duckdb.DataError | duckdb.NotSupportedError | duckdb.IntegrityError
        ):
            return WriteRefused(f"{self._path}: {text}. Nothing was changed; retrying does not help.")
        return unavailable(self.identity, error)

    def may_be_anothers(self, connection: duckdb.DuckDBPyConnection, fault: DataFault) -> bool:
        """Whether the rows that broke a key may be those of a commit that is under way in this process.

        They are in the index a moment before anybody can see them. Other processes are shut out of the file.
        """
        if not isinstance(fault.__cause__, duckdb.IntegrityError):
            return False
        return self._others(connection) > 0

    def _others(self, connection: duckdb.DuckDBPyConnection) -> int:
        """How many connections of this process may be at work on the file beside this one."""
        count = connection.execute("SELECT count FROM duckdb_connection_count()").fetchall()[0][0]
        return int(count) - 1 - self._idle

    @contextmanager
    def _opened(self, read_only: bool, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = self._open(read_only, wait_seconds)
        self._opened_now += 1
        try:
            with self._ready(connection):
                yield connection
        finally:
            self._opened_now -= 1
            connection.close()

    @contextmanager
    def _ready(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        with ended_at_once(connection):
            connection.execute("SET TimeZone = 'UTC'")
            for name, value in self._settings.items():
                connection.execute(f"SET {quote(name)} = ?", [value])
            yield

    def _sweep_spilled(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Remove what did not fit into the memory of a process that was killed: copies of rows, perhaps many.

        Whoever may write has the file to itself, but for connections of its own process: where there are any, what they
        spill stays.
        """
        spilled = self._path.with_name(f"{self._path.name}.tmp")  # DuckDB's default; another one is the user's own.
        if not spilled.is_dir():
            return
        folder = connection.execute("SELECT current_setting('temp_directory')").fetchall()[0][0]
        if not self._others(connection) and Path(folder) == spilled.absolute():
            for path in spilled.glob(_SPILLED):
                path.unlink(missing_ok=True)
            with suppress(OSError):  # Something else lies in it, too.
                spilled.rmdir()

    def _make(self) -> None:
        """Make an empty database that appears in one step: of one that is only begun, DuckDB says that it is none.

        Raises StoreUnavailable (retrying helps once it can be made). What a kill leaves is removed by a later making.
        """
        try:
            atomic.make_folder(self._path.parent)
            temporary = atomic.temporary_sibling(self._path)
            try:
                duckdb.connect(str(temporary), config=dict(CONFIG)).close()
                _remove_left_over(temporary)
                atomic.sync_file(temporary)
                faults.reach("duckdb.file_made")
                # Somebody else was faster, or the file system has no hard links: then DuckDB makes the file in place.
                with suppress(OSError):
                    os.link(temporary, self._path)
                atomic.sync_folder(self._path.parent)
            finally:
                temporary.unlink(missing_ok=True)
        except (duckdb.Error, OSError) as error:
            raise unavailable(self.identity, error) from error

    def _open(self, read_only: bool, wait_seconds: float) -> duckdb.DuckDBPyConnection:
        """Open the file, waiting with growing pauses for whoever holds it."""
        deadline = time.monotonic() + wait_seconds
        busy: duckdb.Error
        for pause in pauses():
            try:
                return duckdb.connect(str(self._path), read_only=read_only, config=dict(CONFIG))
            except (duckdb.ConnectionException, duckdb.IOException, duckdb.BinderException) as error:
                if read_only and (isinstance(error, duckdb.ConnectionException) or _UNREPLAYED in str(error)):
                    # This process has the file open for writing already, or what a killed one had committed has to be
                    # taken over first, which only who may write does: at once.
                    read_only = False
                    continue
                busy, held = error, self._held(error)
            if time.monotonic() + pause > deadline:
                raise StoreBusy(
                    f"{self._path} is {held}; waited {wait_seconds:g} s. Nothing was changed; retrying helps once "
                    "it is closed there."
                ) from busy
            time.sleep(pause)
        raise AssertionError("the pauses never end")

    def _held(self, error: duckdb.Error) -> str:
        """By whom, where a file cannot be opened for that. Raises what any other reason is."""
        if isinstance(error, duckdb.ConnectionException):
            return "open in this process with another configuration"
        if _OPENING in str(error):
            return "attached in this process, or just being opened or closed by another thread of it"
        if not isinstance(error, duckdb.IOException):
            raise error
        holder = _HOLDER.search(str(error))
        if "not a valid DuckDB" in str(error):
            raise WriteRefused(f"{self._path} is no DuckDB database: {error}. Retrying does not help.") from error
        if holder is None and not _LOCKED.search(str(error)):
            raise unavailable(self.identity, error) from error
        return f"held by {holder['program']} (PID {holder['pid']})" if holder else "held by another process"


def _remove_left_over(made: Path) -> None:
    """Remove databases that were begun long before this one, by the clock of the file system."""
    before = made.stat().st_mtime - _LONGEST_MAKING_SECONDS
    for path in made.parent.glob(f"{atomic.TEMPORARY_PREFIX}*{atomic.TEMPORARY_SUFFIX}"):
        with suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()


class DuckDBStore(TableStore):
    """Tables and their commit records in one DuckDB file; see the contract in `storage.contract`.

    A kill at any instruction leaves what the last COMMIT left: DuckDB replays or drops its log when the file is
    opened next. Raises StoreBusy after `wait_seconds` when another process holds the file (retrying helps).
    """

    def __init__(
        self, url: str | Path, wait_seconds: float = 60.0, settings: Mapping[str, str | int] | None = None
    ) -> None:
        """`url` is a path, with or without `duckdb:///` before it; `settings` are DuckDB's, set on every connection.

        Raises UnknownPlace for what is no path.
        """
        self.path = local_path(url, "url", "data/warehouse.duckdb")
        self._file = DuckDBFile(self.path, settings or {})
        super().__init__(self._file, wait_seconds)

    def kept_open(self, to_read: bool = False) -> AbstractContextManager[None]:
        """A block in which this store opens its file once, and others wait: those that write, where it is only
        `to_read`. Raises StoreBusy (retrying helps)."""
        return self._file.kept_open(self.wait_seconds, to_read)
