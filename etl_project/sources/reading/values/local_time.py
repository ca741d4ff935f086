"""Local time: naive local times of a zone as the instants they mean, exactly.

Belongs here: the one place that knows about offsets, skipped and repeated hours. Does not belong here: parsing text.

A local time that the zone skips (clocks put forward) means no instant; one that it repeats (clocks put back) means
the earlier of the two, unless something else is asked for. Python's zoneinfo is asked, once a distinct minute: engines
differ in both cases.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local times are naive by nature
_MICROSECOND = timedelta(microseconds=1)
_MINUTE = 60_000_000
_REMEMBERED = 200_000

_Shift = int | None
"""Microseconds by which local time is ahead of UTC; None where the local time does not exist."""


class LocalTimes:
    """Instants of one zone's local times. Remembers the minutes it has looked up, for one reading of one file."""

    def __init__(self, zone: ZoneInfo, repeated: str = "first") -> None:
        """`repeated`: of a local time that comes twice, the `first`, the `last`, or neither (`reject`)."""
        self.zone = zone
        self._repeated = repeated
        self._shifts: dict[int, tuple[_Shift, _Shift]] = {}

    def to_utc(self, local: pa.Array) -> pa.Array:
        """Naive timestamps (us) as UTC instants; NULL for a local time that does not exist (and for NULL)."""
        known = local.drop_null().cast(pa.int64()).to_numpy()
        result = np.zeros(len(local), dtype=np.int64)
        missing = np.ones(len(local), dtype=bool)
        if len(known):
            places = np.flatnonzero(local.is_valid().to_numpy(zero_copy_only=False))
            result[places], missing[places] = self._instants(known)
        return pa.array(result, pa.int64(), mask=missing).cast(pa.timestamp("us", "UTC"))

    def _instants(self, micros: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The instants, and which local times do not exist."""
        minutes, which = np.unique(micros // _MINUTE, return_inverse=True)
        shifts = [self._shifts.get(minute) or self._of_minute(minute) for minute in minutes.tolist()]
        first = np.array([shift or 0 for shift, _ in shifts], dtype=np.int64)
        skipped = np.array([shift is None for shift, _ in shifts], dtype=bool)
        changing = np.array([shift != last for shift, last in shifts], dtype=bool)
        instants = micros - first[which]
        missing = skipped[which]
        for at in np.flatnonzero(changing[which]):  # The offset changes within the minute, as it did before 1900.
            shift = self._shift(int(micros[at]))
            instants[at], missing[at] = int(micros[at]) - (shift or 0), shift is None
        return instants, missing

    def _of_minute(self, minute: int) -> tuple[_Shift, _Shift]:
        """The shifts at the first and at the last microsecond of the minute, remembered."""
        if len(self._shifts) >= _REMEMBERED:
            self._shifts.clear()
        found = self._shifts[minute] = self._shift(minute * _MINUTE), self._shift((minute + 1) * _MINUTE - 1)
        return found

    def _shift(self, micros: int) -> _Shift:
        try:
            naive = _EPOCH + micros * _MICROSECOND
            first, last = (naive.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
            instant = last if self._repeated == "last" else first
            if instant.astimezone(self.zone).replace(tzinfo=None) != naive:
                return None
            if self._repeated == "reject" and first != last:
                return None
        except OverflowError:  # The first and the last day of the calendar may lie outside of it in UTC.
            return None
        return (naive - instant.replace(tzinfo=None)) // _MICROSECOND
