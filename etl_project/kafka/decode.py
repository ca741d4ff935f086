"""Decode: what a message says, and why one that says nothing usable is dead.

Belongs here: the decoder (a plain function, to be replaced for another encoding than JSON), the day of a message.
Does not belong here: single values (`incoming.judge` has its rejects table for those), writing anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from etl_project.kafka import format as landed
from etl_project.kafka.subscription import Subscription
from etl_project.utc import ONE_DAY

MILLISECONDS_A_DAY = 86_400_000
_EPOCH = date(1970, 1, 1)


class Poison(Exception):
    """The message cannot become a row; the text says why. It goes to the dead letters."""


Fields = Mapping[str, Any]
Decoder = Callable[[bytes], tuple[bytes, Fields]]
"""From the bytes of a message's value to the JSON text of one object (which is landed literally) and the same as Python
values to look at. Raises Poison, and nothing else, for what it cannot read. It has to be deterministic: the same bytes
are the same text for ever."""


def json_object(value: bytes) -> tuple[bytes, Fields]:
    """The decoder for JSON in UTF-8: the text that is landed is the text that was sent, digit for digit."""
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Poison(f"not JSON in UTF-8: {error}") from None
    if type(fields) is not dict:
        raise Poison("JSON, but no object")
    return value, fields


class MessageReader:
    """Turns messages of one subscription into their day and JSON text. `today` (UTC) bounds the days that exist; it is
    asked again where a day lies beyond them, for a reader may outlive midnight."""

    def __init__(self, subscription: Subscription, today: Callable[[], date], decoder: Decoder = json_object) -> None:
        self._decode = decoder
        self._payload = subscription.payload
        self._names = subscription.payload.keys()
        self._required = [name for name, nullable in subscription.payload.items() if not nullable]
        self._day_from = subscription.day_from
        self._zone = ZoneInfo(subscription.source.time_zone)
        self._first = subscription.source.start_date
        self._today = today
        self._last = today() + ONE_DAY
        self._days: dict[int, date] = {}  # Days since 1970 that have been checked, for as long as this reader lives.

    def read(self, value: bytes | None, timestamp_ms: int | None) -> tuple[date, bytes]:
        """The UTC day of the message, and one JSON object with every field of the source. Raises Poison."""
        if value is None:
            raise Poison("tombstone: the message has no value")
        text, fields = self._decode(value)
        if fields.keys() != self._names:
            text = self._completed(text, fields)
        if self._day_from == landed.TIMESTAMP:
            day = None if timestamp_ms is None else self._days.get(timestamp_ms // MILLISECONDS_A_DAY)
            return day or self._day_of(timestamp_ms), text
        if timestamp_ms is not None:
            self._instant(timestamp_ms)
        return self._within(self._day_in(fields.get(self._day_from))), text

    def _completed(self, text: bytes, fields: Fields) -> bytes:
        """With null for fields that may be missing: a file whose rows all lack one would look like another schema."""
        unknown = [name for name in fields if name not in self._payload]
        missing = [name for name in self._required if name not in fields]
        if unknown or missing:
            raise Poison(
                "; ".join(
                    f"{what} {', '.join(map(repr, names))}"
                    for what, names in (("missing", missing), ("not expected", unknown))
                    if names
                )[:2000]
            )
        absent = b",".join(orjson.dumps(name) + b":null" for name in self._names if name not in fields)
        body = text.strip()[1:-1]
        return b"{" + (body + b"," if body.strip() else b"") + absent + b"}"

    def _day_of(self, timestamp_ms: int | None) -> date:
        if timestamp_ms is None:
            raise Poison("no date: the message has no timestamp")
        day = self._within(self._instant(timestamp_ms))
        self._days[timestamp_ms // MILLISECONDS_A_DAY] = day
        return day

    def _instant(self, timestamp_ms: int) -> date:
        """The UTC day of the timestamp, which is part of the row even where the day comes from a field."""
        try:
            return _EPOCH + timedelta(days=timestamp_ms // MILLISECONDS_A_DAY)
        except OverflowError:
            raise Poison(f"no date: the timestamp {timestamp_ms} ms lies beyond the calendar") from None

    def _day_in(self, value: object) -> date:
        """The UTC day of an ISO 8601 date or time; a time without an offset is local time of the source."""
        try:
            if isinstance(value, str):
                if len(value) == len("YYYY-MM-DD"):
                    return date.fromisoformat(value)
                at = datetime.fromisoformat(value)
                return (at if at.tzinfo else at.replace(tzinfo=self._zone)).astimezone(UTC).date()
        except (ValueError, OverflowError):
            pass
        raise Poison(f"no date: {self._day_from} is {str(value)[:80]!r}, no ISO 8601 date or time")

    def _within(self, day: date) -> date:
        if day > self._last:
            self._last = self._today() + ONE_DAY
        if self._first <= day <= self._last:
            return day
        raise Poison(f"its day {day} lies outside {self._first} to {self._last}, the days that exist (UTC)")
