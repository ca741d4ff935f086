"""Fault points: named steps at which a test can stop this process for real.

Belongs here: the one function that production code calls at a named step, and how a test arms it. A step that is not
armed costs one dictionary look-up. ETL_FAULT is `name=kind` or `name:n=kind` for the n-th time the step is reached
(from 1); kinds: `kill` (SIGKILL to this process), `stop` (SIGSTOP: it goes on when it is told to), `error` (an
OSError), `full` (ENOSPC).
"""

from __future__ import annotations

import errno
import os
import signal
from itertools import count

_reached = count(1)  # Only touched while armed, in a process that is about to be stopped by its own test.


def reach(step: str) -> None:
    """Do nothing, unless ETL_FAULT names this step; then stop here, exactly as a crash would."""
    armed = os.environ.get("ETL_FAULT")
    if armed is None:
        return
    where, _, kind = armed.partition("=")
    name, _, nth = where.partition(":")
    if name != step or next(_reached) != int(nth or 1):
        return
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    if kind == "full":
        raise OSError(errno.ENOSPC, f"No space left on device (fault armed at {step})")
    raise OSError(errno.EIO, f"Input/output error (fault armed at {step})")
