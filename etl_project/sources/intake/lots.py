"""Lots: many small files of one day on their way together, so that waiting for the disk is shared.

Belongs here: which files go together. Does not belong here: their copies (`private_copy`), what becomes of a file
(`admit`).

The files of a lot are decided on in the order given, like any others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from etl_project.sources.intake.scan import Waiting
from etl_project.sources.reading.small_content import SMALL_BYTES

MOST_FILES = 256
MOST_BYTES = 16 * 2**20
"""The content of a lot is held in memory, for each thread that receives."""

_PROBED_BYTES = 4096


def lots(files: Sequence[Waiting]) -> Iterator[list[Waiting]]:
    """The files in their order: neighbours of one day that are small go together, a large one goes alone."""
    lot: list[Waiting] = []
    size_bytes = 0
    for one in files:
        full = len(lot) == MOST_FILES or size_bytes + one.size > MOST_BYTES
        if lot and (full or lot[-1].day != one.day or max(one.size, lot[-1].size) > SMALL_BYTES):
            yield lot
            lot, size_bytes = [], 0
        lot.append(one)
        size_bytes += one.size
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
