"""Avro: values behind the number of their schema, as fields. Needs the extra `registry`.

Belongs here: reading a value with the schema it was written with. Logical types become what they stand for (decimals,
dates, instants). Does not belong here: how these are landed (`json_text`).
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from typing import Any

from fastavro import parse_schema, schemaless_reader
from fastavro.schema import SchemaParseException, UnknownType

from etl_project.kafka.decode import Poison
from etl_project.kafka.registry import Registry
from etl_project.kafka.wire_format import unframed

_UNREADABLE = (EOFError, ValueError, LookupError, TypeError, ArithmeticError, struct.error)


class AvroDecoder:
    """Reads values, and keeps the schemas that it has seen."""

    def __init__(self, schemas: Registry) -> None:
        self._schemas = schemas
        self._parsed: dict[int, Any] = {}

    def fields(self, value: bytes) -> Mapping[str, Any] | None:
        """What the value says. Raises Poison, or the registry's errors."""
        framed = unframed(value)
        if framed.schema not in self._parsed:
            self._parsed[framed.schema] = self._schema(framed.schema)
        stream = io.BytesIO(framed.payload)
        try:
            found = schemaless_reader(stream, self._parsed[framed.schema], None)
        except _UNREADABLE as error:
            raise Poison(f"not Avro of schema {framed.schema}: {type(error).__name__}: {error}"[:300]) from None
        if stream.read(1):
            raise Poison(f"not Avro of schema {framed.schema}: bytes are left behind the value")
        if found is not None and not isinstance(found, Mapping):
            raise Poison(f"Avro of schema {framed.schema}, but no record")
        return found

    def _schema(self, number: int) -> Any:
        found = self._schemas.schema(number)
        named: dict[str, Any] = {}
        try:
            self._refer(found, named)
            return parse_schema(json.loads(found.schema_str), named_schemas=named)
        except (ValueError, SchemaParseException, UnknownType) as error:
            raise Poison(f"schema {number} is no Avro schema: {error}"[:300]) from None

    def _refer(self, schema: Any, named: dict[str, Any]) -> None:
        """Read the schemas that this one refers to, the innermost first."""
        for reference in schema.references or ():
            other = self._schemas.version(reference.subject, reference.version)
            self._refer(other, named)
            parse_schema(json.loads(other.schema_str), named_schemas=named)
