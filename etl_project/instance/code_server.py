"""Code server: `dagster dev` gets a new one also where only the half that loads the project was killed.

Dagster's code server is a process that passes calls on, and a child of it that loads the project: the larger one, which
a machine short of memory kills. `dagster dev` starts both again once the first has ended. One that has lost its child
stays, and answers every call with an error until somebody reloads the code location: no sensor, no schedule, no run.

Belongs here: ending such a half. Does not belong here: starting a new one, which is `dagster dev`'s.
"""

from __future__ import annotations

import logging
import os
import threading
import time

import psutil

_log = logging.getLogger("dagster.daemon.etl")

LOOK_SECONDS = 10.0
"""Between two looks. One costs what a list of all processes costs."""
_LOOKS = 2
"""So often in a row it has to be found without its child: a reload starts the new one before it ends the old one."""


class Halves:
    """The code servers below one process, look after look."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._without: dict[psutil.Process, int] = {}

    def end_orphaned(self) -> list[int]:
        """Kill code servers that have lost their child for some looks; gives their process ids.

        One that has never had a child, since it is starting or the project cannot be loaded, is left alone.
        """
        below = psutil.Process(self._parent).children(recursive=True)
        parents = {process.ppid() for process in below if _is_alive(process)}
        servers = [process for process in below if _is_code_server(process)]
        known = {one: looks for one, looks in self._without.items() if one in servers}
        self._without = {
            one: 0 if one.pid in parents else known[one] + 1 for one in servers if one.pid in parents or one in known
        }
        orphaned = [one for one, looks in self._without.items() if looks >= _LOOKS]
        for one in orphaned:
            one.kill()  # Nothing of it is lost: runs are processes of their own.
        return [one.pid for one in orphaned]


def watch(seconds: float = LOOK_SECONDS) -> None:
    """Begin to look after the code servers of a `dagster dev`, as its daemon, for as long as this process lives."""
    parent = psutil.Process(os.getppid())
    if "dev" not in parent.cmdline():
        return  # A daemon by itself: its code server is looked after by whoever starts that.
    halves = Halves(parent.pid)

    def look() -> None:
        while True:
            time.sleep(seconds)
            try:
                ended = halves.end_orphaned()
            except psutil.NoSuchProcess:
                continue  # It ended between two questions; the parent itself is looked for again.
            if ended:
                _log.warning("The process that loads the project was killed; `dagster dev` starts its code server anew")

    threading.Thread(target=look, name="etl-code-server", daemon=True).start()


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_code_server(process: psutil.Process) -> bool:
    try:
        return "code-server" in process.cmdline()
    except psutil.Error:
        return False
