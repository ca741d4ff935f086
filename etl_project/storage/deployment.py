"""Deployment: who writes into a warehouse that others can reach as well.

Belongs here: what a warehouse on a server notes of whoever writes an asset's table. Does not belong here: where an id
comes from (`exclusion.deployment`), and the note itself (`engines.server.tenants`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

NOTES = "etl_deployments"
"""The table in which it is noted."""


class Tenant(NamedTuple):
    """The deployment that writes an asset's table, as it is noted."""

    id: str
    machine: str
    folder: str
    since: str

    def __str__(self) -> str:
        return f"the deployment in {self.folder} on {self.machine} (since {self.since} UTC)"


@dataclass(frozen=True)
class Deployment:
    """Machines that look at the same files and wait for each other: what one has built, another one may replace."""

    ids: tuple[str, ...]
    """The first is noted; by the others the same deployment was known before."""
    machine: str
    folder: str

    def __str__(self) -> str:
        return f"{self.folder} on {self.machine}"


Writer = Callable[[], Deployment | None] | None
"""Who writes, asked when something is written; None where nobody can tell."""
