"""Interrupted: a statement that a signal breaks off ends at once, and what its handler raised is what is raised.

Belongs here: what DuckDB makes of signals. It looks for them while it works, and wraps what their handler raised into a
RuntimeError; its threads work on, and whatever is asked of the connection next waits for them, be it a rollback or
closing it: for as long as the statement would have taken (seen in 1.5.5 with two threads, in seven of ten tries). So
the statement is interrupted first. Does not belong here: signals themselves; whoever runs the process handles them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import duckdb


@contextmanager
def ended_at_once(connection: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """The connection, which a signal in the block leaves without a running statement, so that it can be closed."""
    try:
        yield connection
    except BaseException as error:
        if is_interruption(error):
            halt(connection, error)
        raise


def is_interruption(error: BaseException) -> bool:
    """Whether this came from a signal, not from the statement."""
    return not isinstance(error, Exception) or _wrapped(error) is not None


def halt(connection: duckdb.DuckDBPyConnection, error: BaseException) -> NoReturn:
    """End what the connection is at, and raise what the signal's handler raised."""
    connection.interrupt()
    raise _wrapped(error) or error


def _wrapped(error: BaseException) -> BaseException | None:
    """What a handler raised, of an error that DuckDB made of it."""
    cause = error.__cause__
    interrupted = isinstance(error, RuntimeError) and cause is not None and not isinstance(cause, Exception)
    return cause if interrupted else None
