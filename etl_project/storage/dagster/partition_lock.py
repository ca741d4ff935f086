"""Partition lock: what an IO manager asks of a lock, whoever keeps it.

Belongs here: the question that stands between a writer and its commit, and who the writer is to others. Does not
belong here: any way of locking; `exclusion` has one, and a project that brings its own subclasses this.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import dagster as dg

from etl_project.storage.deployment import Deployment


class PartitionLock(dg.ConfigurableResource[None]):
    """A lock that a run takes when its resources are set up, and leaves when they are torn down."""

    @abstractmethod
    def check(self, asset: str, keys: Sequence[str | None]) -> None:
        """Return only while the run holds these partitions of the asset.

        Raises a Transient failure when it has lost them: the run must not commit any more; running it again helps.
        """

    def deployment(self) -> Deployment | None:
        """Which machines wait for each other by this lock: a warehouse on a server refuses the tables of others.

        None, where nothing is told, and nothing refused.
        """
        return None
