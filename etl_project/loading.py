"""Loading code: without looking for garbage in it.

Belongs here: what makes a process start sooner, whatever it loads.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def is_for_a_run() -> bool:
    """Whether this process loads the code to execute a run, or a step of one; else to show what there is."""
    # Commands that load nothing of Dagster have nothing to ask here, and start without it.
    from dagster._core.definitions.definitions_load_context import (  # noqa: PLC0415
        DefinitionsLoadContext,
        DefinitionsLoadType,
    )

    return DefinitionsLoadContext.get().load_type is DefinitionsLoadType.RECONSTRUCTION


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
