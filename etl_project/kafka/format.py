"""The landing format: what a file landed from Kafka is called and what stands in it. Pure: no broker, no disk.

Belongs here: file names, rows and dead letters as bytes. Does not belong here: which messages are good (`decode`), when
a file is written (`landing`).

A file holds the messages of one UTC day among those of one batch of one topic partition. Its name is

    {YYYY-MM-DD}_{topic}_{partition}_{first offset, 20 digits}-{last offset, 20 digits}.jsonl

where the range is that of the batch: from the position at which it began to the last offset it consumed. So the ranges
of a partition chain without holes even where the topic has gaps (compaction, transactions), and a batch over midnight
is two files with one range. Name and content follow from the offset range alone: landing it again gives the same bytes.
So neither may ever change, or a range landed again would no longer be the same file.

A row is one line: a JSON object with the fields of `FIELDS`, then the payload's own fields exactly as they were sent.
Text that was sent as bytes (keys, header values) is UTF-8 where it is that, and `base64:...` where it is not.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

TOPIC, PARTITION, OFFSET, TIMESTAMP = "kafka_topic", "kafka_partition", "kafka_offset", "kafka_timestamp"
KEY, HEADERS = "kafka_key", "kafka_headers"
FIELDS = (TOPIC, PARTITION, OFFSET, TIMESTAMP, KEY, HEADERS)
"""What every row begins with, in this order. The timestamp is ISO 8601 in UTC with milliseconds, or null; the headers
are the text of a JSON array of [name, value] pairs, or null where there are none."""
COORDINATES = (TOPIC, PARTITION, OFFSET)
"""What tells one message from every other."""
PATTERNS = ("{date}_*.jsonl",)
"""The file names of a Kafka source."""
LONGEST_TOPIC = 180
"""Bytes of a topic's name that leave the file's name within the 255 of a file system."""

Headers = Sequence[tuple[str, bytes | None]]

NOTHING = "nothing"
"""Label of a record of offsets that hold no message: marks of transactions, tombstones that were to be dropped."""
REPLAYED = "replayed"
"""Label of a file of dead letters that have become rows since."""
UNDATED = "undated"
"""Label of a file of dead letters."""
LOST = "lost"
"""Label of a record of offsets that were gone before they could be landed. Somebody who knows renames it; a record with
any other label covers its offsets as well, and is no problem."""
_NAME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}|[a-z]+)_([A-Za-z0-9._-]{1,249})_([0-9]{1,10})_([0-9]{20})-([0-9]{20})\.jsonl?"
)
_BASE64 = "base64:"
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Span(NamedTuple):
    """The offsets that one batch took from one partition: from `first` to `last`, both included."""

    topic: str
    partition: int
    first: int
    last: int


class Named(NamedTuple):
    """What a file's name says: its label (a day, or the kind of a file that has none) and the offsets it covers."""

    label: str
    span: Span


def name(day: date, span: Span) -> str:
    """The name of the file with this batch's messages of this UTC day."""
    return f"{day.isoformat()}_{_suffix(span)}.jsonl"


def dead_letters_name(span: Span) -> str:
    """The name of the file with this batch's dead letters: a message may be dead for having no day, so it has none."""
    return f"{UNDATED}_{_suffix(span)}.jsonl"


def nothing_name(span: Span) -> str:
    """The name of the record of offsets in which there was nothing to land."""
    return f"{NOTHING}_{_suffix(span)}.json"


def replayed_name(span: Span) -> str:
    """The name of the file with those of this batch's dead letters that are rows now: their offsets stay covered."""
    return f"{REPLAYED}_{_suffix(span)}.jsonl"


def replayed_rows_name(day: date, span: Span) -> str:
    """The name of the file with the rows of this day that dead letters of the batch became: never that of the batch's
    own rows, whose newer version it would be taken for."""
    return f"{day.isoformat()}_{_suffix(span)}_{REPLAYED}.jsonl"


def lost_name(span: Span) -> str:
    """The name of the record of offsets that retention removed before they could be landed."""
    return f"{LOST}_{_suffix(span)}.json"


def parse(file_name: str) -> Named | None:
    """What the name of a landed file, of dead letters or of a loss says; None for any other name."""
    found = _NAME.fullmatch(file_name)
    if found is None:
        return None
    label, topic, partition, first, last = found.groups()
    return Named(label, Span(topic, int(partition), int(first), int(last)))


class RowFormat:
    """Formats the rows of one topic partition.

    Holds the text of the second it saw last, since neighbouring messages mostly share it.
    """

    def __init__(self, topic: str, partition: int) -> None:
        head = f'{{"{TOPIC}":{_json(topic)},"{PARTITION}":{partition},"{OFFSET}":%d,"{TIMESTAMP}":'.encode()
        tail = f',"{KEY}":%b,"{HEADERS}":%b%b%b\n'.encode()
        self._timed = head + b'"%b.%03dZ"' + tail
        self._timeless = head + b"null" + tail
        self._second = -1
        self._second_text = b""

    def row(self, offset: int, timestamp_ms: int | None, key: bytes | None, headers: Headers, payload: bytes) -> bytes:
        """One line, its end included. `payload` must be one valid JSON object in UTF-8; it is taken literally.

        `timestamp_ms` counts from 1970 in UTC and lies in the years 1 to 9999.
        """
        body = payload.strip()[1:]
        if b"\n" in body:  # In valid JSON a line end is only ever white space between tokens.
            body = body.replace(b"\n", b" ")
        comma = b"," if body[:1] == b'"' or body.lstrip() != b"}" else b""
        key_json = b"null" if key is None else b'"%b"' % key if key.isalnum() else _json(as_text(key)).encode()
        headers_json = _headers(headers) if headers else b"null"
        if timestamp_ms is None:
            return self._timeless % (offset, key_json, headers_json, comma, body)
        second, millisecond = divmod(timestamp_ms, 1000)
        if second != self._second:
            self._second, self._second_text = second, datetime.fromtimestamp(second, UTC).isoformat()[:19].encode()
        return self._timed % (offset, self._second_text, millisecond, key_json, headers_json, comma, body)


def dead_letter(
    span: Span, timestamp_ms: int | None, key: bytes | None, headers: Headers, value: bytes | None, reason: str
) -> bytes:
    """One line, its end included: a message exactly as it came (bytes in base64), where it came from, and why it is
    dead. `span` is the message's own: first and last are its offset."""
    letter = {
        TOPIC: span.topic,
        PARTITION: span.partition,
        OFFSET: span.first,
        "reason": reason,
        "kafka_timestamp_ms": timestamp_ms,
        "kafka_key_base64": _base64(key),
        "kafka_headers_base64": [[header, _base64(content)] for header, content in headers],
        "kafka_value_base64": _base64(value),
    }
    return _json(letter).encode("utf-8", "backslashreplace") + b"\n"


def _suffix(span: Span) -> str:
    return f"{span.topic}_{span.partition}_{span.first:020d}-{span.last:020d}"


def _headers(headers: Headers) -> bytes:
    """A string that holds JSON: a value of a row is never nested."""
    pairs = [[header, None if content is None else as_text(content)] for header, content in headers]
    return _json(_json(pairs)).encode()


def as_text(content: bytes) -> str:
    """Bytes as text: UTF-8 as it is, anything else as base64; text that looks like our base64 too, so that no two bytes
    look alike."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return _as_base64(content)
    return _as_base64(content) if text.startswith(_BASE64) else text


def _as_base64(content: bytes) -> str:
    return _BASE64 + base64.b64encode(content).decode()


def _base64(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode("ascii")
