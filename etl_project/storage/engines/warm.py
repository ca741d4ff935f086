"""Warm: one DuckDB of this process that stays, to which a file is attached for a look and detached after it.

Opening a file makes a whole DuckDB around it, with all its functions and threads: 15 ms of processor time, and more to
end it, where attaching the file to one that is there takes 1.5. Belongs here: that one DuckDB, to which nothing is
attached, or one file for looks that are under way. Does not belong here: writing, and waiting for whoever holds a file,
which are `duckdb_file`'s; what cannot be attached at once, for whatever reason, is opened there as ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakSet

import duckdb

from etl_project.storage.interrupted import ended_at_once
from etl_project.storage.sql import quote, text

_NAME = (
    "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> 'memory' "
    "AND NOT EXISTS (FROM duckdb_schemas() WHERE schema_name = 'memory')"
)
"""What DuckDB calls the file; nothing where one of its schemas has the name of the DuckDB that it would lie beside."""


class Warm:
    """A DuckDB without a file: while no look is under way nothing is locked, and nobody is in another's way."""

    def __init__(self, config: Mapping[str, str]) -> None:
        """`config` is that of everybody who opens the files in this process."""
        self._config = dict(config)
        self._turn = threading.RLock()
        self._base: duckdb.DuckDBPyConnection | None = None
        self._attached: tuple[Path, str] | None = None
        self._spoilt = False
        # One that a signal left behind between two lines is forgotten with its last reference.
        self._looks: WeakSet[duckdb.DuckDBPyConnection] = WeakSet()
        os.register_at_fork(before=self._before_fork)

    @contextmanager
    def attached(self, path: Path) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """A read-only connection to the file as it lies there; None where that cannot be had at once.

        After an error in the block, an interruption too, the next look begins with another DuckDB.
        """
        taken: list[duckdb.DuckDBPyConnection] = []
        try:
            yield self._begin(path, taken)
        except BaseException:
            self._spoilt = True
            raise
        finally:
            self._end(taken)

    def _begin(self, path: Path, taken: list[duckdb.DuckDBPyConnection]) -> duckdb.DuckDBPyConnection | None:
        """The look, which is in `taken` from its first moment: a signal in the middle leaves nothing unclosed."""
        with self._turn:
            if self._looks and (self._attached is None or self._attached[0] != path):
                return None  # One file at a time: the tables of two would be seen together.
            if not self._looks and (self._attached or self._spoilt):
                self._give_up()
            try:
                self._base = self._base or duckdb.connect(":memory:", config=dict(self._config))
                taken.append(self._base.cursor())
                self._looks.update(taken)
                with ended_at_once(taken[0]) as look:
                    if self._attached is None:
                        look.execute(f"SET temp_directory = {text(f'{path}.tmp')}")  # As of one that is opened itself.
                        look.execute(f"ATTACH {text(str(path))} (READ_ONLY)")
                        [[name]] = look.execute(_NAME).fetchall()
                        self._attached = path, name
                    # With its schema: of a file "Main.duckdb" the name alone is the schema of the DuckDB beside it.
                    look.execute(f"USE {quote(self._attached[1])}.main")
                    return look
            except (duckdb.Error, ValueError) as error:
                # Held by another process, or by a write of this one that looks at what is there: no fault of ours.
                self._spoilt |= not isinstance(error, duckdb.IOException | duckdb.BinderException)
                self._end(taken)
                return None

    def _end(self, taken: list[duckdb.DuckDBPyConnection]) -> None:
        try:
            self._ended(taken)
        except BaseException:
            self._spoilt = True
            self._ended(taken)
            raise

    def _ended(self, taken: list[duckdb.DuckDBPyConnection]) -> None:
        """Close the look, and with the last one the file. May be done again, from wherever a signal broke it off."""
        with self._turn:
            for look in taken:
                look.close()
                self._looks.discard(look)
            if self._looks or self._base is None:
                return
            # Where a look spilled, the folder goes with its DuckDB: whoever writes next sweeps what is left in it.
            if self._spoilt or (self._attached and Path(f"{self._attached[0]}.tmp").exists()):
                self._give_up()
            elif self._attached:
                try:
                    self._base.execute(f"DETACH {quote(self._attached[1])}")
                    self._attached = None
                except duckdb.Error:
                    self._give_up()

    def _give_up(self) -> None:
        if self._base is not None:
            with suppress(duckdb.Error):
                self._base.close()
        self._base, self._attached, self._spoilt = None, None, False

    def _before_fork(self) -> None:
        """A forked process would wait for threads that it has not, where it ends a DuckDB of its parent's."""
        with self._turn:
            if not self._looks:
                self._give_up()
