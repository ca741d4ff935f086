"""Lots: many small files of one day on their way together, so that waiting for the disk is shared.

Belongs here: which files go together, their copies, and flushing many folders. Does not belong here: what becomes of a
file (`admit`).

A small file costs little but its flushes, and a file system makes the flushes of several threads in one go: eight
threads wait a tenth of the time of one. The files of a lot are decided on in the order given, like any others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from datetime import date
from pathlib import Path
from typing import TypeVar

from etl_project import atomic
from etl_project.failures import EtlError
from etl_project.sources.intake.scan import Waiting
from etl_project.sources.reading.small_files import SMALL_BYTES

T = TypeVar("T")

MOST_FILES = 256
THREADS = 8
_PROBED_BYTES = 4096


def lots(files: Sequence[Waiting]) -> Iterator[list[Waiting]]:
    """The files in their order: neighbours of one day that are small go together, a large one goes alone."""
    lot: list[Waiting] = []
    for one in files:
        alone = one.size > SMALL_BYTES
        if lot and (alone or len(lot) == MOST_FILES or lot[-1].day != one.day or lot[-1].size > SMALL_BYTES):
            yield lot
            lot = []
        lot.append(one)
    if lot:
        yield lot


def side_by_side(waiting: Sequence[Waiting]) -> list[list[Waiting]]:
    """The files in groups that do not depend on each other, each in the order given.

    The files of a day are one group. So are days of which two files may be equal: of these the earlier is taken, and
    the later refused, in any number of threads.
    """
    leader = {one.day: one.day for one in waiting}

    def leader_of(day: date) -> date:
        while leader[day] != day:
            day = leader[day]
        return day

    by_size: dict[int, list[Waiting]] = {}
    for one in waiting:
        by_size.setdefault(one.size, []).append(one)
    for alike in by_size.values():
        if len({one.day for one in alike}) > 1:
            first: dict[bytes, date] = {}
            for one in alike:
                day = leader_of(first.setdefault(_ends_of(one), one.day))
                leader[leader_of(one.day)] = day
    groups: dict[date, list[Waiting]] = {}
    for one in waiting:
        groups.setdefault(leader_of(one.day), []).append(one)
    return list(groups.values())


def _ends_of(one: Waiting) -> bytes:
    """The first and last bytes of the file: equal files have equal ones. Nothing for a file that cannot be read."""
    try:
        with Path(one.path).open("rb") as file:
            first = file.read(_PROBED_BYTES)
            file.seek(max(0, one.size - _PROBED_BYTES))
            return first + file.read(_PROBED_BYTES)
    except OSError:
        return b""


def entered(stack: ExitStack, made: Sequence[Callable[[], AbstractContextManager[T]]]) -> list[T | Exception]:
    """What the contexts give, in their order, or what entering one raised. All are entered side by side, and left with
    the stack."""

    def enter(make: Callable[[], AbstractContextManager[T]]) -> tuple[ExitStack, T | Exception]:
        own = ExitStack()
        try:
            return own, own.enter_context(make())
        except (OSError, EtlError) as error:
            return own, error

    found: list[T | Exception] = []
    for own, given in together(enter, made):
        stack.push(own)
        found.append(given)
    return found


def sync_folders(folders: Iterable[Path]) -> None:
    """Flush the entries of all folders to the disk."""
    together(atomic.sync_folder, sorted(set(folders)))


def together(work: Callable[..., T], items: Sequence[object]) -> list[T]:
    """The results of the work, in the order of the items; one item costs no thread. Raises what the work raises."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(THREADS, len(items))) as pool:
        return list(pool.map(work, items))
