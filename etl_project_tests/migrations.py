"""Dagster's histories made quickly: what is the same for each new one is worked out once in a process.

Belongs here: nothing but that. The migrations are those of the installed Dagster, and no test writes any; the tables of
a history in memory are those that Dagster itself has made for the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log import in_memory as events
from dagster._core.storage.runs import in_memory as runs
from dagster._core.storage.sql import create_engine
from sqlalchemy import Connection, Engine
from sqlalchemy.pool import SingletonThreadPool


def read_once() -> None:
    """From now on, the scripts of a folder are read when they are asked for first: a third of what many tests cost."""
    read = ScriptDirectory.from_config
    known: dict[str | None, ScriptDirectory] = {}

    def from_config(config: Config) -> ScriptDirectory:
        folder = config.get_main_option("script_location")
        if folder not in known:
            known[folder] = read(config)
        return known[folder]

    ScriptDirectory.from_config = from_config  # type: ignore[method-assign]


def made_once() -> None:
    """From now on, a history in memory is a copy of the first one of its kind: nothing is compiled for it again.

    Nor does it connect anew for every event.
    """
    create = _alike(create_engine)
    module: Any  # What is put there is of other types.
    for module, name in ((runs, "RunStorageSqlMetadata"), (events, "SqlEventLogStorageMetadata")):
        first = _First(getattr(module, name), module.stamp_alembic_rev)
        setattr(module, name, first)
        module.stamp_alembic_rev = first.stamp
        module.NullPool = _OneAThread
        module.create_engine = create


def _alike(new: Callable[..., Engine]) -> Callable[..., Engine]:
    """Engines of one kind of database, each for another one; a statement is compiled for the first of them."""
    known: list[Engine] = []

    def create(*arguments: Any, **options: Any) -> Engine:
        made = new(*arguments, **options)
        first = known[0] if known else made
        known[:] = [first]
        made.dialect, made._compiled_cache = first.dialect, first._compiled_cache
        return made

    return create


class _OneAThread(SingletonThreadPool):
    """One connection for each thread, however many there are: it would close those of the first while they are used."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "pool_size": 1_000})


class _First:
    """The tables of the first history of a kind, with what says of which version they are."""

    def __init__(self, tables: Any, stamp: Any) -> None:
        self._tables = tables
        self._stamp = stamp
        self._script = ""

    def create_all(self, connection: Connection) -> None:
        """Make the tables."""
        if self._script:
            _sqlite(connection).executescript(self._script)
        else:
            self._tables.create_all(connection)

    def stamp(self, config: Config, connection: Connection) -> None:
        """Say of which version they are."""
        if not self._script:
            self._stamp(config, connection)
            self._script = "\n".join(_sqlite(connection).iterdump())


def _sqlite(connection: Connection) -> Any:
    return connection.connection.driver_connection
