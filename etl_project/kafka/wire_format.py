"""Wire format: the bytes that a schema registry's serializers put before a value.

Belongs here: taking them apart. Source of the format: Confluent's documentation, "Schema Registry, wire format": a
zero, the number of the schema in four bytes (big endian), for Protobuf the path to the message's type, then the value.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from etl_project.kafka.decode import Poison

_FRAME = struct.Struct(">bI")


class Framed(NamedTuple):
    """The number of the writer's schema, and the bytes behind it."""

    schema: int
    payload: bytes


def unframed(value: bytes) -> Framed:
    """Raises Poison for a value that does not begin with the number of a schema."""
    if len(value) < _FRAME.size or value[0] != 0:
        raise Poison(
            f"no schema registry framing: the value begins with {value[: _FRAME.size].hex() or 'nothing'}, not with "
            "00 and the four bytes of a schema (is it plain JSON? then `decoder: json`)"
        )
    return Framed(_FRAME.unpack_from(value)[1], value[_FRAME.size :])


def message_path(payload: bytes) -> tuple[tuple[int, ...], bytes]:
    """Which message type of a Protobuf schema this is, as positions from the outside in, and the bytes behind it."""
    count, at = _zigzag(payload, 0)
    if count == 0:
        return (0,), payload[at:]  # The one byte 0 stands for the path [0].
    path = []
    for _ in range(count):
        position, at = _zigzag(payload, at)
        path.append(position)
    if count < 0 or min(path) < 0:
        raise Poison("no Protobuf framing: the path to the message's type is negative")
    return tuple(path), payload[at:]


def _zigzag(payload: bytes, at: int) -> tuple[int, int]:
    """A variable-length number at this position, and the position behind it."""
    number = shift = 0
    while at < len(payload) and shift < 64:
        byte = payload[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
    raise Poison("no Protobuf framing: the path to the message's type does not end")
