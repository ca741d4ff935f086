"""What keeps a test's answer the same on a busy machine, beside other tests, and at any hour of the day.

Belongs here: how long anything is waited for, ports that stay one's own, the day that it is, requests with patience.
Not here: what is tried; that a wait ends early when it may is the business of who waits.
"""

from __future__ import annotations

import fcntl
import functools
import os
import socket
import time
from contextlib import ExitStack, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx2

from etl_project import utc

PATIENCE_SECONDS = 240
"""How long a test waits for something that a quiet machine does within seconds: never the measure of anything."""

DAY_ENDS = timedelta(minutes=3)
"""A test that lives in today begins no later than so long before its end; on a busy machine it takes two minutes."""

# Left to itself the client gives up after 5 seconds, in which a busy disk may not have synced a file.
get, post, put, request = (
    functools.partial(getattr(httpx2, name), timeout=PATIENCE_SECONDS) for name in ("get", "post", "put", "request")
)


def ports(count: int = 1) -> int:
    """The first of some neighbouring ports on which this process alone may let a server listen, until it ends.

    A port that is only looked at may be anybody's by the time that the server has started, and again while it is
    stopped. These are reserved, by locks that end with the process, and lie below those that the system gives away.
    """
    folder = Path("/tmp", f"etl-test-ports-{os.getuid()}")  # The same one for all, wherever they work.
    folder.mkdir(exist_ok=True)
    for first in range(20_000, 32_000, count):
        with ExitStack() as locks, suppress(OSError):
            for port in range(first, first + count):
                lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                locks.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _nobody_listens(port)
            locks.pop_all()  # They stay open, and with them the locks.
            return first
    raise AssertionError("no free ports")


def _nobody_listens(port: int) -> None:
    """Raises OSError where somebody does, on whichever address of this machine."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # As servers do: what was just closed is free.
        one.bind(("", port))


def today() -> date:
    """The UTC day that it is, and still is when the test ends: shortly before midnight the next one is waited for."""
    left = midnight_after(now := utc.now()) - now
    if left < DAY_ENDS:
        time.sleep(left.total_seconds() + 1)
    return utc.now().date()


def midnight_after(instant: datetime) -> datetime:
    """The end of the instant's UTC day."""
    return datetime.combine(instant.date() + timedelta(days=1), datetime.min.time(), UTC)
