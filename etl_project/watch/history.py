"""History: the commits of one asset, newest first.

Belongs here: choosing them from the store's records. Does not belong here: printing (`cli.status`).
"""

from __future__ import annotations

from datetime import date

from etl_project.failures import Permanent
from etl_project.proofs import Stored
from etl_project.storage import Commit

NEWEST = 20


class NoHistory(Permanent):
    """What is asked for has no commits. Retrying does not help before it is built."""


def commits_of(target: Stored, day: date | None = None, limit: int = NEWEST) -> list[Commit]:
    """The newest commits of the asset, or all commits of one day; newest first.

    Parquet files carry their last 21 records, tables all of them. Raises NoHistory, and StoreBusy (retrying helps).
    """
    if day is not None:
        found = target.store.history(target.asset, day.isoformat())
    else:
        last = sorted(target.store.last_commits([target.asset]).values(), key=_when, reverse=True)
        # The newest commits are commits of the days that were committed to last.
        found = [commit for one in last[:limit] for commit in target.store.history(target.asset, one.partition)]
    if not found:
        raise NoHistory(
            f"{target.asset} was never committed{f' for {day}' if day else ''}; `etl status` shows its days."
        )
    newest = sorted(found, key=_when, reverse=True)
    return newest if day is not None else newest[:limit]


def _when(commit: Commit) -> tuple[object, int, str]:
    return commit.committed_at, commit.sequence, str(commit.partition)
