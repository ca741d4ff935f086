"""Heartbeat: what is said again and again by a thread, for as long as somebody is at work.

Belongs here: the thread. It ends with its process, is not carried over a fork, and stands still with a process that is
stopped: that is what others judge by.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from etl_project.failures import EtlError

_log = logging.getLogger(__name__)


class Heartbeat:
    """Calls `beat` every `seconds` until it is stopped or `beat` answers False. A beat that fails is tried again."""

    def __init__(self, beat: Callable[[], bool], seconds: float, what: str) -> None:
        self._beat, self._seconds, self._what = beat, seconds, what
        self._over = threading.Event()
        threading.Thread(target=self._go_on, name=f"heartbeat of {what}", daemon=True).start()

    def stop(self) -> None:
        """No beat begins any more; nobody waits for one that is under way, which may hang on the network."""
        self._over.set()

    def _go_on(self) -> None:
        failing = False
        while not self._over.wait(self._seconds):
            try:
                if not self._beat():
                    return
                failing = False
            except EtlError as error:
                if not failing and not self._over.is_set():
                    _log.warning("%s could not be renewed, and is tried again until it is lost: %s", self._what, error)
                failing = True
