"""Lake upkeep: the files of a DuckLake warehouse kept few, in words. What is done is `storage`'s."""

from __future__ import annotations

from datetime import timedelta

from etl_project.declare import warehouse
from etl_project.failures import Permanent
from etl_project.settings import Settings
from etl_project.storage import DuckDBStore, DuckLake, tidy


class NoLake(Permanent):
    """The warehouse keeps its own house. Retrying does not help."""


def tidied(configured: Settings, days: int) -> str:
    """Merge, expire and remove what is older than so many days; one line of what was done.

    Raises NoLake for a DuckDB file (retrying does not help), StoreUnavailable (it does).
    """
    store = warehouse(configured)
    if isinstance(store, DuckDBStore) or not isinstance(store.engine, DuckLake):
        raise NoLake(f"{store.identity} is no DuckLake: it needs no such upkeep. Leave --warehouse out.")
    done = tidy(store.engine, store.wait_seconds, timedelta(days=days))
    busy = f"; {', '.join(done.busy)} is being written, and left for the next time" if done.busy else ""
    versions = f", {done.versions} entries of versions that have gone" if done.versions else ""
    return (
        f"{len(done.merged)} tables merged, {done.snapshots} snapshots and {done.files} files removed{versions}{busy}"
    )
