"""Loading code: without looking for garbage in it.

Belongs here: what makes a process start sooner, whatever it loads.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Nothing is collected while the block loads code, nor again at the end of the process what the block made.

    Loading makes half a million objects that stay and next to no garbage. Looking through them over and over, and once
    more when the process ends, is a third of the time of a short command. Only the first such block of a process sets
    its objects aside: where projects are loaded again and again, the former ones are garbage indeed.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            if gc.get_freeze_count() == 0:
                gc.freeze()
            gc.enable()
