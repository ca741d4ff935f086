"""Watching: a tick that has nothing to ask for keeps looking into the drop folders for a few seconds.

Dagster begins a tick of a sensor every five seconds at the most, whatever the sensor's own interval is
(`MIN_INTERVAL_LOOP_TIME` of its sensor daemon, no setting): a file that came right after a look waited for the whole of
it. Belongs here: noticing that there are files to take in. Does not belong here: what is due because of them
(`snapshot`, `sensor`); nothing is opened while a tick waits, neither the warehouse nor Dagster's storage.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from itertools import chain

from etl_project import utc
from etl_project.due.snapshot import Project, Snapshot, scans
from etl_project.sources import scan

STEP_SECONDS = 0.25
"""So long between two looks into the folders."""

MOST_OF_A_CORE = 0.02
"""Looking takes no larger share of the time than this: where folders are large or slow, the looks are further apart."""


def something_came(
    project: Project,
    snapshot: Snapshot,
    until: float,
    *,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = utc.now,
) -> bool:
    """Whether a file that `snapshot` did not have can be taken in: True as soon as one has settled, False at `until`.

    `until` is seconds on `clock`. A version of a file that was there counts as another file; one that went does not
    count. A folder that cannot be read has nothing new. False at once where this code server is told to end. Writes
    nothing and locks nothing: a kill leaves nothing behind.
    """
    serving = _serving()
    known = {name: _to_take(found) for name, found in snapshot.scans.items()}
    while (began := clock()) <= until:
        if any(not _to_take(found) <= known[name] for name, found in scans(project, now())[0].items()):
            return True
        ended = clock()
        wait_seconds = max(STEP_SECONDS, (ended - began) / MOST_OF_A_CORE)
        if ended + wait_seconds > until or not all(thread.is_alive() for thread in serving):
            return False
        pause(wait_seconds)
    return False  # Where the look before took so long, another one would not fit into the minute that Dagster gives.


def _serving() -> list[threading.Thread]:
    """What Dagster's code server runs beside its calls. It lets a call end before it ends itself, and what goes first
    is its thread for heartbeats, or, where it has none, the one that clears up."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("grpc-server-")]


def _to_take(found: scan.Scan) -> frozenset[object]:
    """Each version of a file that a run could work on now."""
    return frozenset(chain(found.waiting, found.undated, found.many_days))
