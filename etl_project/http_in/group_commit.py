"""GroupCommit: one wait for the disk on behalf of everybody who waits at the same time.

Belongs here: the queue behind group commit. Does not belong here: what is committed or synced.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """Runs an action on all items that threads have handed in by the time that it starts.

    The first thread to come acts for those that came while the one before was acting; nobody waits longer than for two
    rounds, and an item is acted upon only by a round that started after it was handed in.
    """

    def __init__(self, action: Callable[[list[Item]], list[Result]]) -> None:
        """`action` gives one result an item, or raises for all of them."""
        self._action = action
        self._leading = Lock()
        self._queue: deque[tuple[Item, Future[Result]]] = deque()

    def __call__(self, item: Item) -> Result:
        """The action's result for this item, or what it raised."""
        result: Future[Result] = Future()
        self._queue.append((item, result))
        with self._leading:
            if not result.done():
                self._lead()
        return result.result()

    def _lead(self) -> None:
        batch = [self._queue.popleft() for _ in range(len(self._queue))]
        try:
            values = self._action([item for item, _ in batch])
        except BaseException as error:
            for _, result in batch:
                result.set_exception(error)
            raise
        for (_, result), value in zip(batch, values, strict=True):
            result.set_result(value)
