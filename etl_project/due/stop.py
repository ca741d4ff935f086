"""Being stopped: SIGTERM and Ctrl-C end a command that makes runs within seconds, whatever it is doing.

Belongs here: from the signal to one exception that unwinds everything. While Dagster executes a run, the handlers are
its own: they fail the step that is being executed, and the signal is forgotten once the run has ended. So that the
command stops, too, the signals are also read from Python's wakeup descriptor, which Dagster leaves alone. Does not
belong here: a killed process (nothing has to be done about it) and `dagster dev`, which stops as Dagster stops.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(KeyboardInterrupt):
    """A signal asked for the end. What was committed stays; nothing has to be repaired before the next start."""

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)
        super().__init__(f"stopped by {self.number.name}")

    @property
    def exit_code(self) -> int:
        """What a shell shows of a process that a signal ended: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.number


def _raise(number: int, _frame: object) -> None:
    raise Stopped(number)


@contextmanager
def on_signals() -> Iterator[None]:
    """SIGTERM and Ctrl-C raise Stopped inside; before and after they do what they did. Main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, _raise) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def afterwards() -> Iterator[None]:
    """Raise Stopped at the end of the block if a signal came in it, whoever's handlers it met. Main thread only.

    The block may have failed because of the signal; then Stopped is raised in the place of its error.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    former = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        came = _came(read)
        os.close(read)
        os.close(write)
        if came is not None:
            raise Stopped(came)


def _came(descriptor: int) -> int | None:
    """The first signal that asks for the end, of those that came."""
    try:
        numbers = os.read(descriptor, 4096)
    except BlockingIOError:
        return None
    return next((number for number in numbers if number in _SIGNALS), None)
