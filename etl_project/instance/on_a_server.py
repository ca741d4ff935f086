"""On a server: what PostgreSQL, and the way to it, say where Dagster's own history is kept there.

Dagster's class (`dagster_postgres`) does the work, named in `dagster.yaml` as its documentation says. Belongs here: one
line, without any password, for what keeps it from doing so.
"""

from __future__ import annotations

import re
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


@contextmanager
def explained() -> Iterator[None]:
    """What is wrong with the server or its address in the block, as one error that says what to do.

    Raises HistoryUnavailable (retrying helps), HistoryUnusable (it does not).
    """
    try:
        yield
    except EtlError:
        raise
    except Exception as error:
        told = next(filter(None, map(_in_words, _chain(error))), None)
        if told is None:
            raise
        raise told from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _in_words(error: BaseException) -> EtlError | None:
    if isinstance(error, ModuleNotFoundError) and error.name == _EXTRA:
        return HistoryUnusable(
            "Dagster's history in PostgreSQL needs the extra `postgres` (dagster-postgres is not installed): "
            "pip install 'etl-project[postgres]'."
        )
    if isinstance(error, dg.DagsterInvalidConfigError) and (unset := _NOT_SET.search(str(error))):
        return HistoryUnusable(f"dagster.yaml takes {unset[1]} from the environment, where it is not set: set it.")
    if not type(error).__module__.startswith("psycopg2"):
        return None
    told = f"Dagster's history in PostgreSQL cannot be used: {_line(error)}. What was committed stays committed;"
    if _FOR_GOOD.search(str(error)):
        return HistoryUnusable(
            f"{told} retrying does not help. Correct the address that dagster.yaml takes from the environment, or what "
            "the role may do; `dagster instance migrate` after an upgrade."
        )
    return HistoryUnavailable(f"{told} retrying helps once the server answers.")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
