"""On a server: what PostgreSQL, and the way to it, say where Dagster's own history is kept there.

Dagster's class (`dagster_postgres`) does the work, named in `dagster.yaml` as its documentation says. Belongs here: one
line, without any password, for what keeps it from doing so.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from etl_project.failures import EtlError
from etl_project.instance.history_files import HistoryUnavailable, HistoryUnusable

_FOR_GOOD = re.compile(
    r"authentication failed|no password supplied|pg_hba.conf|(?:role|database) \"[^\"]*\" does not exist"
    r"|permission denied|read-only transaction|relation \"[^\"]*\" does not exist|column .* does not exist"
)
_NOT_SET = re.compile(r"environment variable \"(\w+)\" which is not set")
_EXTRA = "dagster_postgres"
_OF_HISTORY = (_EXTRA, *(f"dagster._core.storage.{part}" for part in ("runs", "event_log", "schedules", "sql")))
"""Modules that ask for the history, and for nothing else."""


@contextmanager
def opening() -> Iterator[None]:
    """What keeps Dagster from taking its history from a server as `dagster.yaml` says, as one error with what to do.

    For the opening alone: later an environment variable, or a package, may be missing for anybody's resource.
    Raises HistoryUnusable (retrying does not help).
    """
    try:
        yield
    except (dg.DagsterInvalidConfigError, ModuleNotFoundError) as error:
        told = _missing(error)
        if told is None:
            raise
        raise HistoryUnusable(told) from error


@contextmanager
def explained() -> Iterator[None]:
    """What the server of the history, or the way to it, says in the block, as one error that says what to do.

    What other databases say to anybody else's code is left as it is.
    Raises HistoryUnavailable (retrying helps), HistoryUnusable (it does not).
    """
    try:
        yield
    except EtlError:
        raise
    except Exception as error:
        chain = list(_chain(error))
        said = next((one for one in chain if type(one).__module__.startswith("psycopg2")), None)
        if said is None or not any(map(_is_of_history, chain)):
            raise
        raise _meaning(said) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_history(error: BaseException) -> bool:
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name.startswith(_OF_HISTORY) for name in modules)


def _missing(error: Exception) -> str | None:
    if isinstance(error, ModuleNotFoundError) and error.name == _EXTRA:
        return (
            "Dagster's history in PostgreSQL needs the extra `postgres` (dagster-postgres is not installed): "
            "pip install 'etl-project[postgres]'."
        )
    unset = _NOT_SET.search(str(error))
    return f"dagster.yaml takes {unset[1]} from the environment, where it is not set: set it." if unset else None


def _meaning(error: BaseException) -> EtlError:
    line = " ".join(str(error).split()).rstrip(".")
    told = f"Dagster's history in PostgreSQL cannot be used: {line}. What was committed stays committed;"
    if _FOR_GOOD.search(str(error)):
        return HistoryUnusable(
            f"{told} retrying does not help. Correct the address that dagster.yaml takes from the environment, or what "
            "the role may do; `dagster instance migrate` after an upgrade."
        )
    return HistoryUnavailable(f"{told} retrying helps once the server answers.")
