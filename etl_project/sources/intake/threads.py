"""Threads: waiting for the disk side by side.

Belongs here: the few lines that spread flushes over threads. Does not belong here: what is flushed, and when.

A file system makes the flushes of several threads in one go: eight threads wait a tenth of the time of one. Anything
else with small files is slower in threads: they would wait for each other at every call to the system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from etl_project import atomic

A = TypeVar("A")
T = TypeVar("T")

THREADS = 8


def side_by_side(work: Callable[[A], T], items: Sequence[A]) -> list[T]:
    """The results of the work, in the order of the items; one item costs no thread. Raises what the work raises."""

    def some(first: int) -> list[T]:
        return [work(item) for item in items[first : first + size]]

    size = max(1, -(-len(items) // THREADS))
    if len(items) <= size:
        return some(0)
    with ThreadPoolExecutor(THREADS) as pool:
        return [result for results in pool.map(some, range(0, len(items), size)) for result in results]


def sync_folders(folders: Iterable[Path]) -> None:
    """Flush the entries of all folders to the disk."""
    side_by_side(atomic.sync_folder, sorted(set(folders)))
