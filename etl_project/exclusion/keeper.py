"""Keeper: the one place that knows where the task locks of a deployment are kept.

Everybody else asks here, and works with any `jobs.Locks`.
"""

from __future__ import annotations

from pathlib import Path

from etl_project.exclusion.jobs import Locks, RunHasEnded, nobody_says_so
from etl_project.exclusion.locks import TaskLock
from etl_project.settings import LEASE_SECONDS
from etl_project.storage import ExtraMissing


def locks_at(
    url: str | None, state: Path, lease_seconds: float = LEASE_SECONDS, run_has_ended: RunHasEnded = nobody_says_so
) -> Locks:
    """The locks on the server at `url`, else in the file `state` of this machine. Nothing is opened.

    Raises ExtraMissing and LocksUnusable (retrying does not help).
    """
    if not url:
        return TaskLock(state, run_has_ended=run_has_ended)
    try:
        from etl_project.exclusion.postgres import PostgresLocks  # noqa: PLC0415  # An extra: only who uses it needs it.
    except ImportError as error:
        raise ExtraMissing(
            f"Task locks in PostgreSQL (ETL_LOCKS) need the extra `postgres` ({error.name or error}): "
            "pip install 'etl-project[postgres]'."
        ) from None
    return PostgresLocks(url, lease_seconds=lease_seconds, run_has_ended=run_has_ended)
