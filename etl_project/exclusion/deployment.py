"""Deployment: which one this is. Machines with the same locks are one, and so are processes on the same data folder.

Belongs here: the id of a data folder, `deployment-id` in it, and the one that stands for all machines of a lock server.
Does not belong here: what is refused to another deployment (`storage.engines.server.tenants`, `sources.bucket.owner`).
"""

from __future__ import annotations

import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path

from etl_project import atomic, file_lock
from etl_project.exclusion.jobs import Locks
from etl_project.exclusion.keeper import locks_at
from etl_project.failures import Busy
from etl_project.settings import Settings
from etl_project.storage import Deployment

FILE = "deployment-id"
_TRIES, _PAUSE_SECONDS = 20, 0.05


class IdBusy(Busy):
    """Another process gives the data folder its id just now. Nothing was changed; retrying helps."""


def this_one(data_dir: Path, locks: Locks) -> Deployment:
    """The deployment of this data folder. With locks on a server it is that of all machines that have them.

    Raises IdBusy and LocksUnavailable (retrying helps), LocksUnusable (it does not).
    """
    own = own_id(data_dir)
    # What was noted before the locks were moved to a server is this deployment's, too.
    ids = dict.fromkeys((locks.deployment_id(own), own))
    return Deployment(tuple(ids), socket.gethostname(), str(data_dir))


def of_settings(configured: Settings) -> Deployment:
    """The deployment that the settings say. Raises as `this_one`."""
    return this_one(configured.data_dir, locks_at(configured.locks_url, configured.state))


def known_id(data_dir: Path) -> str | None:
    """The id of the data folder, where it has one."""
    with suppress(FileNotFoundError):
        return (data_dir / FILE).read_text(encoding="utf-8").strip() or None
    return None


def own_id(data_dir: Path) -> str:
    """The id of the data folder, made once; of two processes that make it one wins, and both have it.

    Raises IdBusy (retrying helps) where another one has been making it for a second, which takes milliseconds.
    """
    for _ in range(_TRIES - 1):
        with suppress(IdBusy):
            return known_id(data_dir) or _made(data_dir)
        time.sleep(_PAUSE_SECONDS)
    return known_id(data_dir) or _made(data_dir)


def _made(data_dir: Path) -> str:
    """No hard link: not every disk has them. Raises IdBusy at once."""
    busy = IdBusy(f"{data_dir / FILE} is being made by another process. Nothing was changed; retrying helps.")
    with file_lock.held(data_dir / f"{FILE}.lock", busy):
        known = known_id(data_dir)
        if known is None:
            known = uuid.uuid4().hex
            with atomic.replacing(data_dir / FILE, "owner.id") as temporary:
                temporary.write_text(f"{known}\n", encoding="utf-8")
    return known
