"""Protobuf: values behind the number of their schema, as fields. Needs the extra `registry`.

Belongs here: message types made of what the registry says, without generated code, and reading a value with them. The
registry has to give descriptors (`format=serialized`, as Confluent's does). The fields are those of Protobuf's own
mapping to JSON, under the names of the schema: numbers of 64 bits are text, instants ISO 8601, bytes base64, and a
field that was left out has its default where the schema has no way to tell.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    json_format,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from etl_project.kafka.decode import Poison
from etl_project.kafka.registry import Registry
from etl_project.kafka.wire_format import message_path, unframed

_SERIALIZED = "serialized"
_KNOWN = (any_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)


class ProtobufDecoder:
    """Reads values, and keeps the types that it has seen."""

    def __init__(self, schemas: Registry) -> None:
        self._schemas = schemas
        self._types: dict[tuple[int, tuple[int, ...]], type[Message]] = {}

    def fields(self, value: bytes) -> Mapping[str, Any]:
        """What the value says. Raises Poison, or the registry's errors."""
        framed = unframed(value)
        path, payload = message_path(framed.payload)
        if (framed.schema, path) not in self._types:
            self._types[framed.schema, path] = self._type(framed.schema, path)
        message = self._types[framed.schema, path]()
        try:
            message.ParseFromString(payload)
            fields: dict[str, Any] = json_format.MessageToDict(
                message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
        except (DecodeError, json_format.Error, ValueError, TypeError) as error:
            raise Poison(f"not Protobuf of schema {framed.schema}: {error}"[:300]) from None
        return fields

    def _type(self, number: int, path: tuple[int, ...]) -> type[Message]:
        pool = DescriptorPool()
        for known in _KNOWN:
            pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
        try:
            name = self._added(pool, self._schemas.schema(number, _SERIALIZED), f"schema-{number}.proto")
            types = pool.FindFileByName(name).message_types_by_name.values()
            found = list(types)[path[0]]
            for position in path[1:]:
                found = found.nested_types[position]
        except (DecodeError, TypeError, ValueError, LookupError) as error:
            raise Poison(f"schema {number} gives no message type {list(path)}: {error}"[:300]) from None
        made: type[Message] = message_factory.GetMessageClass(found)
        return made

    def _added(self, pool: DescriptorPool, schema: Any, name: str) -> str:
        """Put the file of a schema into the pool, after those that it imports; gives its name there."""
        for reference in schema.references or ():
            self._added(
                pool, self._schemas.version(reference.subject, reference.version, _SERIALIZED), str(reference.name)
            )
        file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(schema.schema_str, validate=True))
        file.name = name
        pool.AddSerializedFile(file.SerializeToString())
        return name
