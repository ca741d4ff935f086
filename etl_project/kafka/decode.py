"""Decode: what a message says, and why one that says nothing usable is dead.

Belongs here: what a decoder is (a plain function; which one a source has, says `decoders`), what becomes of deletions,
the day of a message.
Does not belong here: single values (`incoming.judge` has its rejects table for those), writing anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from etl_project.kafka import envelope
from etl_project.kafka import format as landed
from etl_project.kafka.field_names import FieldNames, UnexpectedFields, value_at
from etl_project.kafka.json_text import NoJson
from etl_project.kafka.subscription import A_DAY, Subscription
from etl_project.utc import ONE_DAY

MILLISECONDS_A_DAY = 86_400_000
_EPOCH = date(1970, 1, 1)


class Poison(Exception):
    """The message cannot become a row; the text says why. It goes to the dead letters."""


Fields = Mapping[str, Any]
Decoded = tuple[bytes, Fields] | None
Decoder = Callable[[bytes], Decoded]
"""From the bytes of a message's value to the JSON text of one object (which is landed literally) and the same as Python
values to look at; None for a value that says null. It has to be deterministic: the same bytes are the same text for
ever. Raises Poison for what it cannot read. An EtlError (a registry that is away) ends the landing, and nothing of the
batch is committed."""


def json_object(value: bytes) -> Decoded:
    """The decoder for JSON in UTF-8: the text that is landed is the text that was sent, digit for digit."""
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Poison(f"not JSON in UTF-8: {error}") from None
    if fields is None:
        return None
    if type(fields) is not dict:
        raise Poison("JSON, but no object")
    return value, fields


class MessageReader:
    """Turns messages of one subscription into their day and JSON text. `today` (UTC) bounds the days that exist; it is
    asked again where a day lies beyond them, for a reader may outlive midnight."""

    def __init__(self, subscription: Subscription, today: Callable[[], date], decoder: Decoder = json_object) -> None:
        self._decode = decoder
        self._names = subscription.payload.keys()
        self._fields = FieldNames(subscription)
        self._day_from, self._day_format = subscription.day_from, subscription.day_format
        self._tombstones, self._envelope = subscription.tombstones, subscription.envelope
        self._zone = ZoneInfo(subscription.source.time_zone)
        self._first = subscription.source.start_date
        self._today = today
        self._last = today() + ONE_DAY
        self._days: dict[int, date] = {}  # Days since 1970 that have been checked, for as long as this reader lives.

    def read(self, value: bytes | None, timestamp_ms: int | None) -> tuple[date, bytes] | None:
        """The UTC day of the message, and one JSON object with every field of the source; None for a deletion that is
        to be dropped. Raises Poison."""
        decoded = None if value is None else self._decode(value)
        if decoded is not None and self._envelope != "none":
            decoded = self._row_in(decoded[0])
        elif decoded is None:
            decoded = self._tombstone()
        if decoded is None:
            return None
        text, fields = decoded
        if fields.keys() != self._names:
            text = self._completed(text, fields)
        if self._day_from == landed.TIMESTAMP:
            day = None if timestamp_ms is None else self._days.get(timestamp_ms // MILLISECONDS_A_DAY)
            return day or self._day_of(timestamp_ms), text
        if timestamp_ms is not None:
            self._instant(timestamp_ms)
        return self._within(self._day_in(value_at(fields, self._day_from))), text

    def _row_in(self, text: bytes) -> Decoded:
        """The row of a change event; None for a deletion that is to be dropped."""
        try:
            change = envelope.unwrapped(text, self._names)
        except NoJson as error:
            raise Poison(str(error)) from None
        if change is None:
            return self._tombstone()
        if change.deleted and self._tombstones != "keep":
            self._refuse_gone("deletion: the event says that the row is gone")
            return None
        return json_object(change.text)

    def _tombstone(self) -> Decoded:
        """What stands for a message without a value. Behind a change event that was kept it says nothing new."""
        if self._tombstones == "keep" and self._envelope == "none":
            return b"{}", {}
        self._refuse_gone("tombstone: the message has no value")
        return None

    def _refuse_gone(self, what: str) -> None:
        if self._tombstones == "reject":
            raise Poison(f"{what} (a source may say `tombstones: drop`, or `keep` for a row)")

    def _completed(self, text: bytes, fields: Fields) -> bytes:
        """With null for fields that may be missing: a file whose rows all lack one would look like another schema."""
        try:
            names = self._fields.absent(fields)
        except UnexpectedFields as error:
            raise Poison(str(error)) from None
        if not names:
            return text
        absent = b",".join(orjson.dumps(name) + b":null" for name in names)
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
        """The UTC day of an ISO 8601 date or time, or of a number since 1970; a time without an offset is local time of
        the source."""
        if self._day_format != "iso":
            return self._day_since_1970(value)
        try:
            if isinstance(value, str):
                if len(value) == len("YYYY-MM-DD"):
                    return date.fromisoformat(value)
                at = datetime.fromisoformat(value)
                return (at if at.tzinfo else at.replace(tzinfo=self._zone)).astimezone(UTC).date()
        except (ValueError, OverflowError):
            pass
        hint = " (`day_format: epoch_milliseconds` and its like read numbers)" if type(value) in (int, float) else ""
        raise Poison(f"no date: {self._day_from} is {str(value)[:80]!r}, no ISO 8601 date or time{hint}")

    def _day_since_1970(self, value: object) -> date:
        try:
            if isinstance(value, int | float | str) and not isinstance(value, bool):
                return _EPOCH + timedelta(days=int(Decimal(str(value)) // A_DAY[self._day_format]))
        except (ArithmeticError, ValueError):
            pass
        raise Poison(f"no date: {self._day_from} is {str(value)[:80]!r}, no number of {self._day_format}")

    def _within(self, day: date) -> date:
        if day > self._last:
            self._last = self._today() + ONE_DAY
        if self._first <= day <= self._last:
            return day
        raise Poison(f"its day {day} lies outside {self._first} to {self._last}, the days that exist (UTC)")
