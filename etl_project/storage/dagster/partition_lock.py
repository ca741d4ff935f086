"""Partition lock: what an IO manager asks of a lock, whoever keeps it.

Belongs here: the one question that stands between a writer and its commit. Does not belong here: any way of locking;
`exclusion` has one, and a project that brings its own subclasses this.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import dagster as dg


class PartitionLock(dg.ConfigurableResource[None]):
    """A lock that a run takes when its resources are set up, and leaves when they are torn down."""

    @abstractmethod
    def check(self, asset: str, keys: Sequence[str | None]) -> None:
        """Return only while the run holds these partitions of the asset.

        Raises a Transient failure when it has lost them: the run must not commit any more; running it again helps.
        """
