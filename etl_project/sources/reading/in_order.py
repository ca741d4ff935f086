"""In order: the pieces of one file worked on side by side, their results in the order of the pieces.

Belongs here: the few lines that spread a stream of tasks over threads within bounded memory. Does not belong here:
spreading files (`admit`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_AHEAD = 2
"""Results a thread that may wait for a slow taker: it works on while the taker is busy with what it took."""


def in_order(tasks: Iterator[Callable[[], T]]) -> Iterator[T]:
    """The results of the tasks, in their order; at most a few are under way. A single task costs no thread.

    Raises what a task, or the making of the next one, raises; results that were not taken by then are dropped.
    """
    threads = min(4, os.cpu_count() or 1)
    first = next(tasks, None)
    if first is None:
        return
    second = next(tasks, None)
    if second is None or threads == 1:
        yield first()
        if second is not None:
            yield second()
        yield from (task() for task in tasks)
        return
    with ThreadPoolExecutor(threads) as pool:
        under_way: deque[Future[T]] = deque((pool.submit(first), pool.submit(second)))
        for task in tasks:
            if len(under_way) > _AHEAD * threads:
                yield under_way.popleft().result()
            under_way.append(pool.submit(task))
        while under_way:
            yield under_way.popleft().result()
